"""The scoring graph: manifest → read → score → maps, then scores."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext

from pipeline.calibration import Calibration, read_calibration
from pipeline.config import ScoreConfig
from pipeline.images import Decoder
from pipeline.ledger import IdSet, read_final_ids
from pipeline.lock import LockedError, OutputLock
from pipeline.logs import bind
from pipeline.manifest import Manifest, build_manifest
from pipeline.models import load_adaclip
from pipeline.redaction import redact
from pipeline.report import RunReport
from pipeline.report.page import write_run_page
from pipeline.storage import StorageError, absolute, arrow_filesystem, write_object
from pipeline.writer import ResultWriter

from .metrics import ScanMetrics
from .reader import read_images
from .scorer import AnomalyScorer

GPU_BATCH_SIZE = 16
CPU_BATCH_SIZE = 4
BLOCK_BYTES = 110e6  # of pixels, 128 images at 518 px: Ray Data would split blocks above 128 MiB
CPU_BATCHES_PER_BLOCK = 2  # a CPU takes seconds an image: small blocks keep progress visible
# A reader waits for storage about as long as it decodes, so two share a CPU. Ray Data fuses stages
# of equal resources: readers and scorers must differ, or decoding would move into the scorers.
CPUS_PER_READER = 0.5
PROGRESS_INTERVAL_S = 10.0

Say = Callable[[str], None]


class CannotRunError(Exception):
    """The run can't be carried out as configured; the message says what to change."""


@dataclass(frozen=True)
class Resources:
    """How the scorers are laid out on the cluster."""

    num_actors: int
    gpus_per_actor: float
    cpus_per_actor: int
    """0 for GPU scorers, which must not take the CPUs that feed them."""
    batch_size: int

    @classmethod
    def plan(
        cls, config: ScoreConfig, cluster: dict[str, float], node_cpus: Sequence[int] = ()
    ) -> Resources:
        """Fill in what the configuration leaves open.

        Args:
            cluster: ``ray.cluster_resources()``.
            node_cpus: CPUs of each node, which no actor can cross; default: one node has all.

        Raises:
            CannotRunError: no CPU would be left for reading.
        """
        num_gpus, num_cpus = cluster.get("GPU", 0.0), int(cluster.get("CPU", 0.0))
        gpus = config.gpus_per_actor
        if gpus is None:
            gpus = 1.0 if num_gpus else 0.0
        if gpus:
            fitting = int(num_gpus) * int(1 / gpus)
            num_actors = config.num_actors or max(1, fitting)
            return cls(num_actors, gpus, 0, config.batch_size or GPU_BATCH_SIZE)
        num_actors = config.num_actors or 1
        if num_actors >= num_cpus:
            raise CannotRunError(
                f"{num_actors} CPU scorers and the readers need at least {num_actors + 1} CPUs, "
                f"the Ray cluster has {num_cpus}; lower --num-actors or add CPUs"
            )
        cpus = _cpus_per_actor(num_actors, node_cpus or [num_cpus])
        return cls(num_actors, 0.0, cpus, config.batch_size or CPU_BATCH_SIZE)

    def rows_per_block(self, image_size: int, num_images: int) -> int:
        """Whole batches, so that no forward pass runs half empty at the end of a block.

        Args:
            num_images: of the whole run; every scorer shall get some of them.
        """
        share = math.ceil(num_images / self.num_actors / self.batch_size)
        if self.gpus_per_actor:
            most = int(BLOCK_BYTES // (3 * image_size**2 * self.batch_size))
        else:
            most = CPU_BATCHES_PER_BLOCK
        return self.batch_size * max(1, min(share, most))


def score_bucket(
    config: ScoreConfig,
    say: Say = print,
    scorer: type = AnomalyScorer,
    source: str = "",
    run_id: str = "",
    page: bool = True,
) -> RunReport:
    """Score what the inputs hold and the output doesn't. Needs ``ray.init`` before.

    Everything that can be wrong with the configuration is found before a scorer starts. Whatever
    happens later, finished rows are written and report.json tells what was done.

    Args:
        config: the job's settings.
        say: receives the progress lines.
        scorer: the actor class; benchmarks put a stand-in of known speed here.
        source: name of the nightly scan; metrics and logs of other runs name the output.
        run_id: default: ``new_run_id()``.
        page: write the run's report.html at the end.

    Raises:
        CannotRunError: bad input, output, model or resources, or another run writes to the output;
            nothing was scored.
        LockLostError: another run took the output over; what was written before stays.
    """
    run_id = run_id or new_run_id()
    bind(run_id=run_id, source=source or absolute(config.output))
    lock = OutputLock(config.output, run_id=run_id, wait_s=config.lock_wait_s, say=say)
    with ExitStack() as held:
        with explained("the output can't be written"):
            held.enter_context(lock)
        return _score(config, say, scorer, source, run_id, lock, page)


def tell_page(config: ScoreConfig, run_id: str, say: Say, *, pictures: bool = True) -> str:
    """Write a run's report.html; returns why there is none, or ""."""
    folder = f"{absolute(config.output)}/runs/{run_id}"
    problem = write_run_page(config.output, run_id, gallery=config.gallery if pictures else 0)
    say(f"report.html can't be written: {problem}" if problem else f"page: {folder}/report.html")
    return problem


def new_run_id() -> str:
    """Sorts by time of start."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:6]}"


def _score(
    config: ScoreConfig,
    say: Say,
    scorer: type,
    source: str,
    run_id: str,
    lock: OutputLock,
    page: bool,
) -> RunReport:
    report = RunReport(run_id=run_id, settings=asdict(config), source=source)
    run_folder = f"{absolute(config.output)}/runs/{run_id}"
    with explained("the output can't be written"):
        settings = redact(json.dumps(asdict(config), indent=2))
        write_object(f"{run_folder}/config.json", settings.encode())
    try:
        resources = Resources.plan(config, ray.cluster_resources(), _node_cpus())
        say(f"run {run_id}: loading the model")
        with _timed(report, "model"):
            report.model = fingerprint(config)
        report.calibration = _calibration(config, report.model)
        with _timed(report, "list"):
            manifest = _list(config, report, run_folder, say)
        if manifest.pending:
            say(f"{manifest.pending:,} images to score, {manifest.skipped:,} scored before")
            with _timed(report, "run"):
                _run(config, resources, manifest, report, say, scorer, source, lock)
        else:
            say(f"nothing to score: all {manifest.listed:,} images are scored already")
        report.status = "done"
        if report.error_rate > config.max_error_rate:
            report.status = "too_many_errors"
            report.message = (
                f"{report.error_rate:.1%} of the images ended in an error, more than "
                f"--max-error-rate {config.max_error_rate:.1%}"
            )
    except BaseException as error:
        report.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        report.message = str(error)
        raise
    finally:
        write_object(f"{run_folder}/report.json", report.to_json())
        if page:
            # Who interrupts a run waits for its end, so then no picture is read.
            pictures = report.status != "interrupted"
            report.page_problem = tell_page(config, run_id, say, pictures=pictures)
    return report


def scoring_graph(
    manifest: Manifest,
    resources: Resources,
    *,
    image_size: int,
    max_megapixels: float,
    decoder: Decoder = "exact",
    scorer: type,
    scorer_arguments: dict[str, Any],
) -> ray.data.Dataset:
    """The lazy dataset of scored rows (``schema.scored_schema``), in no fixed order."""
    read: Any = read_images  # Ray Data's annotations know no generator over Arrow tables
    rows = resources.rows_per_block(image_size, manifest.pending)
    filesystem, _ = arrow_filesystem(manifest.folder)
    paths = [arrow_filesystem(uri)[1] for uri in manifest.files]
    return (
        ray.data.read_parquet(paths, filesystem=filesystem)
        .repartition(target_num_rows_per_block=rows)
        .map_batches(
            read,
            fn_kwargs={
                "image_size": image_size,
                "max_megapixels": max_megapixels,
                "decoder": decoder,
            },
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=CPUS_PER_READER,
        )
        .map_batches(
            scorer,
            fn_constructor_kwargs=scorer_arguments,
            batch_size=resources.batch_size,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=resources.num_actors),
            num_cpus=resources.cpus_per_actor,
            num_gpus=resources.gpus_per_actor,
        )
    )


def _cpus_per_actor(num_actors: int, node_cpus: Sequence[int]) -> int:
    """The most CPUs that every scorer finds on one node, with one left over for the readers."""
    for cpus in range((sum(node_cpus) - 1) // num_actors, 1, -1):
        if sum(node // cpus for node in node_cpus) >= num_actors:
            return cpus
    return 1


def _node_cpus() -> list[int]:
    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]


def fingerprint(config: ScoreConfig) -> str:
    """What the rows carry as their model: its own fingerprint, and the decoder if it is not exact.

    Loads the model once in a CPU task: this validates it, and its memory leaves with the task.

    Raises:
        CannotRunError: there is no such model.
    """
    load = ray.remote(num_cpus=1, max_retries=0)(_load_and_fingerprint)
    try:
        return f"{ray.get(load.remote(config.model_arguments))}{config.decoder_suffix}"
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError):
            raise CannotRunError(redact(str(error.cause))) from None
        raise


def _calibration(config: ScoreConfig, model: str) -> Calibration | None:
    if config.thresholds is None:
        return None
    with explained("--thresholds can't be used"):
        calibration = read_calibration(config.thresholds)
        calibration.check_model(model)
        calibration.values("score")
    return calibration


def _load_and_fingerprint(model_arguments: dict[str, Any]) -> str:
    return load_adaclip(**model_arguments).fingerprint()


def final_ids(config: ScoreConfig, model: str) -> IdSet:
    """The ledger, or nothing if all is to be scored again.

    Raises:
        CannotRunError: the score table can't be read.
    """
    if config.rescore:
        return IdSet()
    with explained("the score table of the output can't be read"):
        output = absolute(config.output)
        return read_final_ids(output, model, max_megapixels=config.max_megapixels)


def _list(config: ScoreConfig, report: RunReport, run_folder: str, say: Say) -> Manifest:
    last = time.monotonic()

    def on_progress(manifest: Manifest) -> None:
        nonlocal last
        if time.monotonic() - last > PROGRESS_INTERVAL_S:
            last = time.monotonic()
            say(f"listing: {manifest.listed:,} objects, {manifest.pending:,} to score")

    done = final_ids(config, report.model)
    with explained("an input can't be listed"):
        manifest = build_manifest(config, report.model, done, f"{run_folder}/manifest", on_progress)
    report.listed, report.excluded = manifest.listed, manifest.excluded
    report.skipped, report.pending = manifest.skipped, manifest.pending
    nothing_new = config.since is not None and manifest.excluded
    if not (manifest.listed or nothing_new or config.allow_empty):
        left_out = f" (globs leave out {manifest.excluded:,})" if manifest.excluded else ""
        raise CannotRunError(
            f"there is no object below {', '.join(config.input)}{left_out}; check the prefix, or "
            "give --allow-empty if that may happen"
        )
    return manifest


def _run(
    config: ScoreConfig,
    resources: Resources,
    manifest: Manifest,
    report: RunReport,
    say: Say,
    scorer: type,
    source: str,
    lock: OutputLock,
) -> None:
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = DataContext.get_current()
    context.enable_progress_bars = False  # the progress line tells what users ask for
    context.actor_init_retry_on_errors = True  # a download that fails once is no reason to end
    writer = ResultWriter(
        output=absolute(config.output),
        scan_date=config.scan_date,
        run_id=report.run_id,
        model=report.model,
        write_maps=config.maps,
        interval_s=config.commit_interval_s,
        check=lock.check,
    )
    graph = scoring_graph(
        manifest,
        resources,
        image_size=config.image_size,
        max_megapixels=config.max_megapixels,
        decoder=config.decoder,
        scorer=scorer,
        scorer_arguments={
            "model_arguments": config.model_arguments,
            "fingerprint": report.model.removesuffix(config.decoder_suffix),
            "gpus": resources.gpus_per_actor,
            "num_threads": resources.cpus_per_actor + 1,  # the readers' CPU is mostly idle
        },
    )
    metrics = ScanMetrics(source or absolute(config.output), manifest.pending)
    try:
        with _progress(report, say):
            for rows in graph.iter_batches(batch_size=None, batch_format="pyarrow"):
                writer.add(rows)
                report.add(rows)
                metrics.add(rows)
    finally:
        writer.commit()
        report.map_bytes, report.score_bytes = writer.map_bytes, writer.score_bytes
        report.seconds["write"] = writer.seconds
    if report.num_done != manifest.pending:
        raise RuntimeError(f"{manifest.pending} images went in, {report.num_done} rows came out")


@contextmanager
def _progress(report: RunReport, say: Say) -> Iterator[None]:
    """Say how far the run is from time to time, also while nothing comes out."""
    started, stopped = time.monotonic(), threading.Event()

    def watch() -> None:
        while not stopped.wait(PROGRESS_INTERVAL_S):
            say(report.progress_line(time.monotonic() - started))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stopped.set()
        watcher.join()


@contextmanager
def _timed(report: RunReport, stage: str) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        report.seconds[stage] = time.monotonic() - started


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns what a user can mend into one sentence."""
    try:
        yield
    except (StorageError, LockedError, ValueError, pa.ArrowException) as error:
        raise CannotRunError(f"{what}: {error}") from error
