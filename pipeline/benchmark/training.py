"""Training steps: images/s and peak memory against batch size and workers."""

from __future__ import annotations

import logging
import multiprocessing
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor

from pipeline.config import BenchmarkConfig, ModelSpec
from pipeline.distributed.loading import load_model
from pipeline.distributed.training.group import sum_over_workers
from pipeline.images import preprocess
from pipeline.models.training import make_optimizer, training_step
from pipeline.synthetic import CATEGORIES, generate

from .timing import Stopwatch, Timing, peak_memory_bytes, reset_peak_memory, rounded

_log = logging.getLogger(__name__)

BATCH_SIZES = (1, 4, 8, 16)
NUM_WORKERS = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One series of steps."""

    model: ModelSpec
    batch_size: int = 1
    num_workers: int = 1
    device: str = "cpu"
    num_threads: int | None = None
    num_steps: int = 5
    recompute_activations: bool = False


def measure_training(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """A step at every batch size and number of workers, and with activations computed again."""
    make = partial(
        Case,
        model=replace(config.model_spec, precision="fp32"),
        device="cuda" if torch.cuda.is_available() and config.gpus_per_actor != 0 else "cpu",
        num_threads=config.num_threads,
        num_steps=config.num_steps,
    )
    cases = []
    for batch_size in config.batch_size or BATCH_SIZES:
        cases += [
            make(batch_size=batch_size, num_workers=n) for n in config.num_workers or NUM_WORKERS
        ]
        cases.append(make(batch_size=batch_size, recompute_activations=True))
    results = []
    for case in cases:
        _log.info(f"training step: {_name(case)}")
        results.append(run_case(case))
    return results


def run_case(case: Case) -> dict[str, Any]:
    """The steps of one case, every worker in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(case.num_workers, mp_context=context) as pool,
    ):
        meeting = str(Path(folder, "workers"))
        futures = [pool.submit(run_worker, case, i, meeting) for i in range(case.num_workers)]
        timings, held, peaks = zip(*(future.result() for future in futures), strict=True)
    seconds, cpu_s = statistics.median(timings[0].wall_s), statistics.median(timings[0].cpu_s)
    return {
        "step": _name(case),
        "batch_size": case.batch_size,
        "num_workers": case.num_workers,
        "recompute_activations": case.recompute_activations,
        "step_s": rounded(seconds),
        "images_per_s": rounded(case.batch_size * case.num_workers / seconds),
        # CPU time of all threads: what other work on the machine doesn't change as much.
        "cpu_s_per_image": rounded(cpu_s / case.batch_size),
        "peak_memory_bytes": max(peaks),
        "step_memory_bytes": max(peak - before for peak, before in zip(peaks, held, strict=True)),
    }


def run_worker(case: Case, rank: int, meeting: str) -> tuple[Timing, int, int]:
    """One worker's steps; worker 0's times count.

    Args:
        meeting: file, not there yet, through which the workers find each other.

    Returns:
        Times of the steps, and bytes of memory before them and at their peak.
    """
    if case.num_threads:
        torch.set_num_threads(case.num_threads)
    torch.set_flush_denormal(True)  # as the job's workers
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=case.num_workers
    )
    device = torch.device(case.device)
    model = load_model(case.model, device)
    model.recompute_activations = case.recompute_activations
    optimizer = make_optimizer(model)
    images, categories, labels, masks = labelled_batch(
        case.batch_size, model.settings.image_size, first=rank
    )
    batch = (images.to(device), categories, labels.to(device), masks.to(device))
    step = partial(
        training_step,
        model,
        optimizer,
        *batch,
        share=1 / case.num_workers,
        reduce_gradients=sum_over_workers,
    )
    held, watch = reset_peak_memory(device), Stopwatch(device)
    for number in range(1 + case.num_steps):
        watch("step" if number else "first", step)
    dist.destroy_process_group()
    return watch["step"], held, peak_memory_bytes(device)


def labelled_batch(
    batch_size: int, image_size: int, *, first: int = 0
) -> tuple[Tensor, list[str], Tensor, Tensor]:
    """Images, categories, labels and masks of generated products, for ``training_step``."""
    names = list(CATEGORIES)
    categories = [names[(first + i) % len(names)] for i in range(batch_size)]
    samples = [
        generate(c, "hole" if i % 2 == 0 else "good", first + i, size=image_size)
        for i, c in enumerate(categories)
    ]
    images = np.stack([preprocess(Image.fromarray(s.image), image_size) for s in samples])
    labels = torch.tensor([int(s.mask.any()) for s in samples])
    masks = np.stack([s.mask for s in samples])
    return torch.from_numpy(images), categories, labels, torch.from_numpy(masks)


def _name(case: Case) -> str:
    more = ", activations recomputed" if case.recompute_activations else ""
    return f"batch {case.batch_size} x {case.num_workers}{more}"
