"""Training on auxiliary data with Ray Train: plan, workers, progress, and what comes out."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.constants import RAY_CHDIR_TO_TRIAL_DIR
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.queue import Queue

from pipeline.config import TrainConfig
from pipeline.datasets import DatasetError
from pipeline.datasets.auxiliary import Auxiliary, read_auxiliary
from pipeline.datasets.masks import BLACK
from pipeline.datasets.remarks import Remarks
from pipeline.distributed.cluster import start
from pipeline.distributed.resources import CPUS_PER_READER
from pipeline.errors import CannotRunError, ExpectedError
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, absolute, read_object, write_object
from pipeline.terminal import PROGRESS_INTERVAL_S, clean

from .messages import EpochRecord, Failure, Finished, LostMasks, NoModel, Pictures
from .output import EventLog, model_card, write_metrics
from .progress import Progress
from .remarks import kept_remarks
from .state import SETTINGS, TrainingState, load_state, selected_epoch
from .task import PyTorchWorkers, WorkerTask, train_worker

_log = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.5
PREEMPTION_WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"  # Ray 2.60, ray.train.v2
START_ATTEMPTS = 30  # of 60 s each: nodes that start on demand take minutes
LOST_MASKS = "lost_masks.txt"  # names the images that were trained on without their masks
MAX_MESSAGE = 1000  # characters of an error on the terminal

# What a run may be continued with another value of. The data are compared image by image, workers
# and batch size by their product, and epochs may be added, since the learning rate is constant.
CHANGEABLE = (
    *("data", "layout", "split", "output", "address", "log_format"),
    *("epochs", "patience", "select", "max_failures", "max_megapixels", "checkpoint_every_steps"),
    *("recompute_activations", "batch_size", "num_workers", "gpus_per_worker", "cpus_per_worker"),
)
# What settings were that an older version's output does not name.
SINCE = {"dice": "image"}


class TrainingStoppedError(ExpectedError):
    """Something in the data or the settings ended the run; the message names it."""


@dataclass(frozen=True)
class WorkerResources:
    """How the training workers are laid out on the cluster."""

    num_workers: int
    gpus: int
    cpus: float
    """For each worker."""

    @classmethod
    def plan(cls, config: TrainConfig, cluster: dict[str, float]) -> WorkerResources:
        """Fill in what the configuration leaves open.

        Args:
            cluster: ``ray.cluster_resources()``.

        Raises:
            CannotRunError: the workers would wait for resources for ever.
        """
        num_gpus, num_cpus = int(cluster.get("GPU", 0)), cluster.get("CPU", 0.0)
        gpus = int(bool(num_gpus) if config.gpus_per_worker is None else config.gpus_per_worker)
        num_workers = config.num_workers or max(1, num_gpus if gpus else 1)
        on_demand = gpus and config.gpus_per_worker and config.num_workers
        if gpus * num_workers > num_gpus and not on_demand:
            raise CannotRunError(
                f"{num_workers} workers on GPUs, and the Ray cluster has {num_gpus}; lower "
                "--num-workers, or give it with --gpus-per-worker 1 if GPU nodes start on demand"
            )
        if on_demand:
            return cls(num_workers, gpus, config.cpus_per_worker or 1)
        cpus = config.cpus_per_worker or _cpus_per_worker(num_workers, gpus, num_cpus)
        if cpus * num_workers + CPUS_PER_READER > num_cpus:
            raise CannotRunError(
                f"{num_workers} workers of {cpus:g} CPUs and {CPUS_PER_READER} for reading need "
                f"{cpus * num_workers + CPUS_PER_READER:g} CPUs, the Ray cluster has {num_cpus:g}; "
                "lower --num-workers or --cpus-per-worker, or add CPUs"
            )
        return cls(num_workers, gpus, cpus)

    @property
    def num_threads(self) -> int:
        """PyTorch's threads in each worker."""
        return max(1, int(self.cpus))


def _cpus_per_worker(num_workers: int, gpus: int, num_cpus: float) -> float:
    whole = int((num_cpus - 1) / num_workers)
    if whole:
        return 1 if gpus else whole
    return max(0.25, math.floor(100 * (num_cpus - CPUS_PER_READER) / num_workers) / 100)


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run left."""

    state: TrainingState
    model: str
    """Fingerprint of the selected weights with their backbone."""
    epoch: int
    """The epoch they are from, counted from 1."""


def train_auxiliary(config: TrainConfig) -> TrainingResult:
    """Train, or go on where the output's checkpoint is.

    Args:
        config: the job's settings.

    Raises:
        CannotRunError: bad data, output, model or resources, or an output that holds another run;
            nothing was trained.
        TrainingStoppedError: a file that can't be read, a loss that isn't finite, or workers that
            died too often.
    """
    start(config.address)
    resources = WorkerResources.plan(config, ray.cluster_resources())
    output = absolute(config.output)
    data, state, claim, remarks = _prepared(config, resources, output)
    rows = data.rows
    for line in remarks.lines:
        _log.warning(f"the data: {line}")
    train = rows.filter(pa.compute.invert(rows["held_out"]))
    progress = Progress(config, len(train), config.batch_size * resources.num_workers)
    if state.step > progress.num_steps:
        raise CannotRunError(
            f"--epochs is {config.epochs}, and the run in {output} has done {len(state.epochs)} "
            "already; give at least as many"
        )
    _log.info(progress.opening(state.step, len(rows) - len(train)))
    task = WorkerTask(
        config=config,
        output=output,
        train=train,
        held_out=rows.filter(rows["held_out"]),
        num_threads=resources.num_threads,
        messages=Queue(actor_options={"num_cpus": 0}),
        claim=claim,
    )
    log = EventLog(output, state.step + 1)
    try:
        finished = _fit(task, resources, progress, log, remarks)
    finally:
        log.close()
        task.messages.shutdown(force=True)
    state = load_state(output)
    if len(state.epochs) < config.epochs:
        _log.info(progress.stopped_line(len(state.epochs)))
    write_metrics(output, state)
    card = model_card(
        config,
        rows,
        state,
        model=finished.model,
        num_learnable=finished.num_learnable,
        hardware=f"{resources.num_workers} x {finished.device}",
        remarks=remarks.lines,
    )
    write_object(f"{output}/model_card.md", card.encode())
    return TrainingResult(state, finished.model, selected_epoch(config, state))


def _prepared(
    config: TrainConfig, resources: WorkerResources, output: str
) -> tuple[Auxiliary, TrainingState, bytes | None, Remarks]:
    """The images, where the output's run is, its settings if it is new, and what is odd about the
    images.

    Raises:
        CannotRunError: bad data, output or model, or an output that holds another run.
    """
    try:
        data = read_auxiliary(
            config.data,
            config.layout,
            split=None if config.split == "all" else config.split,
            mosaic_rates=config.mosaic_rate,
            held_out=config.held_out,
            seed=config.seed,
        )
        if config.image_size % 2 and any(data.rows["mosaic_rate"].to_pylist()):
            raise CannotRunError(
                f"--image-size {config.image_size} is odd, and mosaics halve it; use another size, "
                "or --mosaic-rate 0"
            )
        state = load_state(output)
        claim = _claim(config, resources, data.rows, output)
        return data, state, claim, kept_remarks(data, output)
    except (DatasetError, StorageError) as error:
        raise CannotRunError(str(error)) from error


def _fit(
    task: WorkerTask,
    resources: WorkerResources,
    progress: Progress,
    log: EventLog,
    remarks: Remarks,
) -> Finished:
    """Run the workers to the end, and pass on what they send."""
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ended: list[BaseException | None] = []
    # Ray Train would catch Ctrl-C in the main thread, and exit with code 0.
    trainer = threading.Thread(target=_run_trainer, args=(task, resources, ended), daemon=True)
    trainer.start()
    finished: Finished | None = None
    failures: list[str] = []
    no_model: list[str] = []
    lost_masks = {f"{uri}: {BLACK}" for uri in remarks.empty_masks}  # workers name them again
    last_step, started = 0, time.monotonic()
    said = started
    _log.info("starting the workers")
    while True:
        running = trainer.is_alive()  # asked first, so that nothing sent before the end is missed
        for message in _received(task.messages):
            if isinstance(message, Failure):
                failures.append(clean(message.message, MAX_MESSAGE))
            elif isinstance(message, NoModel):  # and the workers end by themselves
                no_model.append(message.message)
            elif isinstance(message, Finished):
                finished = message
            elif isinstance(message, EpochRecord):
                log.add(message)
                _log.info(progress.epoch_line(message))
                if lost_masks:
                    _log.info(progress.lost_masks_line(sorted(lost_masks)))
            elif isinstance(message, LostMasks):
                lost_masks |= message.reasons
            elif isinstance(message, Pictures):
                log.add(message)
            elif message.step > last_step:  # replaced workers repeat what came after a checkpoint
                last_step = message.step
                log.add(message)
                if not progress.has_begun:
                    _log.info(progress.begun_line(time.monotonic() - started))
                progress.add(message)
        if not running:
            break
        if progress.has_begun and time.monotonic() - said > PROGRESS_INTERVAL_S:
            said = time.monotonic()
            _log.info(progress.line())
        trainer.join(POLL_INTERVAL_S)
    if no_model:
        raise CannotRunError(no_model[0])
    if lost_masks:
        lines = "".join(f"{reason}\n" for reason in sorted(lost_masks))
        write_object(f"{task.output}/{LOST_MASKS}", lines.encode())
    if failures:
        raise TrainingStoppedError("; ".join(failures))
    if ended[0] is not None:
        raise TrainingStoppedError(_reason(ended[0])) from ended[0]
    assert finished is not None
    return finished


def _run_trainer(
    task: WorkerTask, resources: WorkerResources, ended: list[BaseException | None]
) -> None:
    # Workers stay in the job's folder, where relative paths of backbones and weights are right.
    os.environ[RAY_CHDIR_TO_TRIAL_DIR] = "0"
    os.environ[PREEMPTION_WATCHER] = "0"  # a process whose news no worker asks for
    per_worker = {"CPU": resources.cpus, "GPU": float(resources.gpus)}
    limits: dict[str, Any] = {  # Ray's annotations are those of Train v1, without the second
        "max_failures": task.config.max_failures,
        "controller_failure_limit": START_ATTEMPTS,
    }
    # Ray Train wants a folder, and keeps nothing there that this run would need.
    with tempfile.TemporaryDirectory() as folder:
        try:
            _Trainer(
                train_worker,
                train_loop_config={"task": task},
                backend_config=PyTorchWorkers(),
                scaling_config=ScalingConfig(
                    num_workers=resources.num_workers,
                    use_gpu=bool(resources.gpus),
                    resources_per_worker=per_worker,
                ),
                run_config=RunConfig(
                    storage_path=folder,
                    failure_config=FailureConfig(**limits),
                ),
            ).fit()
            ended.append(None)
        except BaseException as error:
            ended.append(error)


class _Trainer(DataParallelTrainer):
    """Without what would start a process of its own, 1.5 s of CPU time each, and has no use here.

    There are no data sets for Ray Train to manage, and placement groups end with the controller.
    """

    def _create_default_callbacks(self) -> list[Any]:
        return [
            each
            for each in super()._create_default_callbacks()
            if type(each).__name__ not in ("DatasetsCallback", "PlacementGroupCleanerCallback")
        ]


def _received(messages: Queue) -> list[Any]:
    received: list[Any] = messages.get_nowait_batch(messages.qsize())
    return received


def _reason(error: BaseException) -> str:
    """The last line of an error, which in Ray's is the cause."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return clean(lines[-1].strip() if lines else type(error).__name__, MAX_MESSAGE)


def _claim(
    config: TrainConfig, resources: WorkerResources, rows: pa.Table, output: str
) -> bytes | None:
    """The settings that will make a new output this run's; None if it is this run's already.

    The images of a new one are noted. Its settings come last, when the model turned out to exist:
    an output with them is complete.

    Raises:
        CannotRunError: the output is another run's.
    """
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    settings = {k: v for k, v in asdict(config).items() if k not in CHANGEABLE}
    settings["images per step"] = config.batch_size * resources.num_workers
    here = json.loads(json.dumps(settings))
    try:
        there = SINCE | json.loads(read_object(f"{output}/{SETTINGS}")[0])
        before = pq.read_table(pa.BufferReader(read_object(f"{output}/data.parquet")[0]))
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        write_object(f"{output}/data.parquet", buffer.getvalue())
        return json.dumps(here, indent=2).encode()
    differing = [
        f"{name} is {there.get(name)!r} there and {here.get(name)!r} here"
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]
    if not before.equals(rows):
        differing.append(f"the images differ ({len(before):,} there, {len(rows):,} here)")
    if differing:
        raise CannotRunError(
            f"{output} holds a run with other settings: {'; '.join(differing)}. Give the same "
            "ones to continue it, or another --output"
        )
    return None
