"""The training loop that every worker runs: the same steps, each on its own part of the images."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.train
import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.datasets.sampling import Sample, epoch_samples
from pipeline.distributed.loading import load_model
from pipeline.distributed.resources import CPUS_PER_READER
from pipeline.images.normalising import normalise_
from pipeline.models import AdaCLIP, save_checkpoint
from pipeline.models.training import (
    NonFiniteLoss,
    StepResult,
    compute_losses,
    make_optimizer,
    training_step,
)
from pipeline.storage import write_object

from .data import PLAN_SCHEMA, Batch, feed, plan_table, step_part
from .group import join, own_device, sum_over_workers
from .messages import EpochRecord, Failure, Finished, LostMasks, NoModel, Pictures, StepRecord
from .state import SETTINGS, load_state, save_state, selected_epoch
from .task import WorkerTask
from .validation import Validation

WEIGHT_FILES = ("adaclip.pth", "adaclip.safetensors")
PARTS = {  # AdaCLIP's own modules, and where a step's record has their gradients' norms
    "visual_prompter": "grad_visual_prompts",
    "text_prompter": "grad_text_prompts",
    "dynamic_visual_prompt_generator": "grad_visual_generator",
    "dynamic_text_prompt_generator": "grad_text_generator",
    "patch_token_layer": "grad_patch_projection",
    "cls_token_layer": "grad_class_projection",
}
MAX_BLOCKS_AHEAD = 32  # 0.5 GB of the object store for each worker at 518 px
SEND_INTERVAL_S = 1.0  # between messages to the driver, each a call to another process


def work(task: WorkerTask) -> None:
    """Train from the output's checkpoint to the end; worker 0 writes the weights."""
    context = ray.train.get_context()
    rank, num_workers, device = context.get_world_rank(), context.get_world_size(), own_device()
    join(rank, num_workers, device)
    try:
        worker = TrainingWorker(task, rank, num_workers, device)
        worker.train()
        if worker.rank == 0:
            worker.finish()
    except _StoppedError:
        pass  # not an error to Ray Train, which would start the workers again
    # Not after an error, with which others may still wait for this worker: Ray ends them.
    if dist.is_initialized():
        dist.destroy_process_group()


class _StoppedError(Exception):
    """Some worker met what can't be trained on; raised by all of them in the same step."""


class TrainingWorker:
    """One worker's model, optimiser and part of the plan."""

    def __init__(self, task: WorkerTask, rank: int, num_workers: int, device: torch.device) -> None:
        self.rank = rank
        self._task, self._config, self._num_workers = task, task.config, num_workers
        self._device = device
        if self._device.type == "cpu":
            torch.set_num_threads(max(1, min(task.num_threads, len(os.sched_getaffinity(0)))))
        # As when scoring: PyTorch's default lets convolutions round fp32 to TF32.
        torch.backends.cudnn.allow_tf32 = False
        # Saturated maps have probabilities and gradients too small for normal floats, with which
        # CPUs calculate up to a hundred times as slowly.
        torch.set_flush_denormal(True)
        self._model = self._load_model()
        if task.claim is not None and rank == 0:
            write_object(f"{task.output}/{SETTINGS}", task.claim)
        self._model.score_calibration = None  # of --init: another is fitted to what is trained
        self._model.recompute_activations = self._config.recompute_activations
        self._optimizer = make_optimizer(
            self._model, lr=self._config.lr, weight_decay=self._config.weight_decay
        )
        self._state = load_state(task.output)
        self._state.restore(self._model, self._optimizer)
        self._lost_masks: set[str] = set()
        self._unsent: list[Any] = []
        self._sent_at = time.monotonic()

    def _load_model(self) -> AdaCLIP:
        """The model; if some worker can't make it, all of them stop."""
        problem = ""
        try:
            model = load_model(self._config.model_spec, self._device)
        except ValueError as error:
            problem = str(error)
            self._task.messages.put(NoModel(problem))
        if sum_over_workers([], torch.tensor([float(bool(problem))], device=self._device)).item():
            raise _StoppedError
        return model

    def train(self) -> None:
        """All steps that are left."""
        steps = self._num_steps(len(self._task.train))
        with closing(self._batches()) as batches:
            for epoch in range(self._state.step // steps, self._config.epochs):
                if self._state.is_stale(self._config.patience):
                    break
                self._train_epoch(epoch, steps, batches)
                self._end_epoch(epoch, steps, batches)

    def finish(self) -> None:
        """Write the selected weights in both formats."""
        if self._config.select == "best" and self._state.best_epoch is not None:
            self._model.load_state_dict(self._state.best_weights, strict=False)
        kept = self._state.epochs[selected_epoch(self._config, self._state) - 1]
        if kept.score_scale is not None and kept.score_shift is not None:
            self._model.score_calibration = kept.score_scale, kept.score_shift
        with tempfile.TemporaryDirectory() as folder:
            for name in WEIGHT_FILES:
                save_checkpoint(self._model, Path(folder, name))
                write_object(f"{self._task.output}/{name}", Path(folder, name).read_bytes())
        device = torch.cuda.get_device_name() if self._device.type == "cuda" else "CPU"
        num_learnable = sum(w.numel() for w in self._model.learnable_state().values())
        self._send(Finished(self._model.fingerprint(), num_learnable, device), now=True)

    def _train_epoch(self, epoch: int, steps: int, batches: Iterator[Batch]) -> None:
        """The steps of an epoch (counted from 0) that are left."""
        every = self._config.checkpoint_every_steps or math.inf
        whole = self._config.batch_size * self._num_workers
        before = time.monotonic()
        for step in range(self._state.step - epoch * steps, steps):
            images = min(whole, len(self._task.train) - step * whole)
            batch = next(batches)
            self._tell_lost_masks(batch)
            result = self._step(batch, images)
            self._state.step += 1
            now = time.monotonic()
            self._record(epoch, result, images, now - before)
            before = now
            is_last = step + 1 == steps  # which is saved together with the held-out losses
            if self._state.step % every == 0 and not is_last:
                self._save()

    def _record(self, epoch: int, result: StepResult, images: int, seconds: float) -> None:
        record = StepRecord(
            step=self._state.step,
            epoch=epoch + 1,
            loss=result.loss,
            score_loss=result.score_loss,
            focal=result.focal,
            dice=result.dice,
            grad_norm=result.grad_norm,
            images=images,
            seconds=seconds,
            **{PARTS[name]: norm for name, norm in result.part_norms.items()},
        )
        self._state.steps.append(record)
        self._send(record)

    def _end_epoch(self, epoch: int, steps: int, batches: Iterator[Batch]) -> None:
        validation = Validation(self._config.image_size)
        score_loss, focal, dice = self._held_out_losses(epoch, batches, validation)
        done = self._state.steps[-steps:]
        images = sum(record.images for record in done)
        record = EpochRecord(
            epoch=epoch + 1,
            step=self._state.step,
            train_loss=sum(record.loss * record.images for record in done) / images,
            held_out_loss=None if score_loss is None else score_loss + focal + dice,
            held_out_score_loss=score_loss,
            held_out_focal=focal,
            held_out_dice=dice,
            **({} if score_loss is None else validation.figures()),
        )
        self._state.end_epoch(record, self._model)
        if validation.pictures:
            self._send(Pictures(self._state.step, validation.pictures))
        self._send(record, now=True)
        self._save()

    def _save(self) -> None:
        if self.rank == 0:
            self._state.capture(self._model, self._optimizer)
            save_state(self._task.output, self._state)

    def _step(self, batch: Batch, images: int) -> StepResult:
        try:
            if batch.errors:
                parameters = self._optimizer.param_groups[0]["params"]
                sum_over_workers(parameters, torch.full((3,), math.nan, device=self._device))
                raise NonFiniteLoss(batch.errors[0], [])
            return training_step(
                self._model,
                self._optimizer,
                *self._tensors(batch),
                has_mask=self._has_mask(batch),
                dice=self._config.dice,
                share=len(batch) / images,
                reduce_gradients=sum_over_workers,
                precision=self._config.precision,
                max_grad_norm=self._config.max_grad_norm,
            )
        except NonFiniteLoss as error:
            where = f"step {self._state.step + 1}"
            if batch.errors:
                self._fail(f"{where}: can't be read: {batch.errors[0]}")
            elif error.indices:
                uris = "; ".join(batch.uris[i] for i in error.indices)
                self._fail(f"{where}: {error}, for {uris}")
            raise _StoppedError from None

    def _tell_lost_masks(self, batch: Batch) -> None:
        if new := set(batch.lost_masks) - self._lost_masks:
            self._lost_masks |= new
            self._task.messages.put(LostMasks(frozenset(new)))

    def _fail(self, message: str) -> None:
        self._task.messages.put(Failure(message))

    @torch.no_grad()
    def _held_out_losses(
        self, epoch: int, batches: Iterator[Batch], validation: Validation
    ) -> tuple[Any, Any, Any]:
        """Score, focal and dice loss of the held-out images, over all workers."""
        count = len(self._task.held_out)
        if not count:
            return None, None, None
        sums = torch.zeros(3, device=self._device)
        for batch in islice(batches, self._num_steps(count)):
            self._tell_lost_masks(batch)
            if batch.errors:
                self._fail(f"a held-out image can't be read: {batch.errors[0]}")
                sums += math.nan
                break
            if len(batch):
                losses, features = compute_losses(
                    self._model,
                    *self._tensors(batch),
                    has_mask=self._has_mask(batch),
                    dice=self._config.dice,
                    precision=self._config.precision,
                )
                validation.add(batch, self._model.score(features))
                if not losses.isfinite().all():
                    uris = "; ".join(batch.uris)
                    self._fail(
                        f"after epoch {epoch + 1}: the loss is not finite, for one of {uris}"
                    )
                sums += losses * len(batch)
        mean = sum_over_workers([], sums) / count
        if not mean.isfinite().all():
            raise _StoppedError
        score_loss, focal, dice = mean.tolist()
        return score_loss, focal, dice

    def _num_steps(self, num_samples: int) -> int:
        return math.ceil(num_samples / (self._config.batch_size * self._num_workers))

    def _batches(self) -> Generator[Batch]:
        """This worker's part of every step that is left, and of the held-out images in between.

        One pipeline reads for the whole run, so that nothing waits at the end of an epoch.
        """
        rows, seed = self._task.train, self._config.seed
        groups = list(zip(rows["dataset"].to_pylist(), rows["category"].to_pylist(), strict=True))
        rates = rows["mosaic_rate"].to_pylist()
        steps, done = self._num_steps(len(rows)), self._state.step
        held_out = [(i,) for i in range(len(self._task.held_out))]
        plans, sizes = [PLAN_SCHEMA.empty_table()], []
        for epoch in range(done // steps, self._config.epochs):
            samples = epoch_samples(groups, rates, seed=seed, epoch=epoch)
            first = max(0, done - epoch * steps)
            for table, chosen in (
                (rows, self._parts(samples, first)),
                (self._task.held_out, self._parts(held_out, 0)),
            ):
                plans.append(plan_table(table, [sample for part in chosen for sample in part]))
                sizes += [len(part) for part in chosen]
        return feed(
            pa.concat_tables(plans),
            sizes,
            image_size=self._config.image_size,
            max_megapixels=self._config.max_megapixels,
            blocks_ahead=self._blocks_ahead(),
        )

    def _blocks_ahead(self) -> int:
        """As many as the readers of this worker's share of the cluster read at a time."""
        readers: float = ray.cluster_resources().get("CPU", 1.0) / CPUS_PER_READER
        return max(2, min(MAX_BLOCKS_AHEAD, math.ceil(readers / self._num_workers)))

    def _parts(self, samples: Sequence[Sample], first: int) -> list[Sequence[Sample]]:
        """This worker's samples of each step from the given one on."""
        return [
            samples[
                step_part(
                    step,
                    self.rank,
                    num_workers=self._num_workers,
                    batch_size=self._config.batch_size,
                    num_samples=len(samples),
                )
            ]
            for step in range(first, self._num_steps(len(samples)))
        ]

    def _tensors(self, batch: Batch) -> tuple[Tensor, list[str], Tensor, Tensor]:
        """Images, categories, labels and masks as ``training_step`` takes them."""
        pixels = torch.from_numpy(batch.pixels).to(self._device).permute(0, 3, 1, 2).float()
        images = normalise_(pixels.div_(255.0), *self._model.pixels)
        labels = torch.from_numpy(batch.labels).to(self._device)
        return images, batch.categories, labels, torch.from_numpy(batch.masks).to(self._device)

    def _has_mask(self, batch: Batch) -> Tensor:
        return torch.from_numpy(batch.has_mask).to(self._device)

    def _send(self, record: Any, *, now: bool = False) -> None:
        if self.rank:
            return
        self._unsent.append(record)
        if now or time.monotonic() - self._sent_at > SEND_INTERVAL_S:
            self._task.messages.put_nowait_batch(self._unsent)
            self._unsent, self._sent_at = [], time.monotonic()
