"""Training steps: images/s and peak memory against batch size and workers, beside the baseline."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.config import BenchmarkConfig
from pipeline.distributed.training.worker import sum_over_workers
from pipeline.images import MEAN, STD
from pipeline.models import load_adaclip
from pipeline.models.training import make_optimizer, training_step
from pipeline.provenance import memory_bytes
from pipeline.synthetic import CATEGORIES, generate

from .machine import reset_peak_memory
from .released_training import prepare, released_step

Say = Callable[[str], None]

BATCH_SIZES = (1, 4, 8, 16)
NUM_WORKERS = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One series of steps."""

    model_arguments: dict[str, Any]
    batch_size: int = 1
    num_workers: int = 1
    device: str = "cpu"
    num_threads: int | None = None
    num_steps: int = 5
    released: bool = False
    """Do the released code's work instead of ours."""
    recompute_activations: bool = False
    flush_denormals: bool = True


def measure_training(config: BenchmarkConfig, say: Say) -> list[dict[str, Any]]:
    """The released code's step, then ours at every batch size, number of workers and setting."""
    make = partial(
        Case,
        model_arguments=config.model_arguments | {"precision": "fp32"},
        device="cuda" if torch.cuda.is_available() and config.gpus_per_actor != 0 else "cpu",
        num_threads=config.num_threads,
        num_steps=config.num_steps,
    )
    cases = [make(released=True, flush_denormals=False)]
    for batch_size in config.batch_size or BATCH_SIZES:
        cases += [
            make(batch_size=batch_size, num_workers=n) for n in config.num_workers or NUM_WORKERS
        ]
        cases.append(make(batch_size=batch_size, recompute_activations=True))
    cases.append(make(flush_denormals=False))
    results: list[dict[str, Any]] = []
    for case in cases:
        say(f"training step: {_name(case)}")
        results.append(run_case(case))
        ours, released = (_cost(each, case.device) for each in (results[-1], results[0]))
        results[-1]["times_released"] = round(released / ours, 2)
    return results


def _cost(result: dict[str, Any], device: str) -> float:
    """Seconds for an image: on CPUs their own time, since others may use them as well."""
    cost: float = result["cpu_s_per_image"]
    return cost if device == "cpu" else result["num_workers"] / result["images_per_s"]


def run_case(case: Case) -> dict[str, Any]:
    """The steps of one case, every worker in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(case.num_workers, mp_context=context) as pool,
    ):
        meeting = str(Path(folder, "workers"))
        futures = [pool.submit(run_worker, case, i, meeting) for i in range(case.num_workers)]
        found = [future.result() for future in futures]
    seconds = statistics.median(found[0]["seconds"])
    return {
        "step": _name(case),
        "batch_size": case.batch_size,
        "num_workers": case.num_workers,
        "released": case.released,
        "recompute_activations": case.recompute_activations,
        "flush_denormals": case.flush_denormals,
        "step_s": round(seconds, 4),
        "images_per_s": round(case.batch_size * case.num_workers / seconds, 3),
        # CPU time of all threads: what other work on the machine doesn't change as much.
        "cpu_s_per_image": round(statistics.median(found[0]["cpu_s"]) / case.batch_size, 4),
        "peak_memory_bytes": max(each["peak"] for each in found),
        "step_memory_bytes": max(each["peak"] - each["before"] for each in found),
    }


def run_worker(case: Case, rank: int, meeting: str) -> dict[str, Any]:
    """One worker's steps; worker 0's times count.

    Args:
        meeting: file, not there yet, through which the workers find each other.
    """
    if case.num_threads:
        torch.set_num_threads(case.num_threads)
    torch.set_flush_denormal(case.flush_denormals)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=case.num_workers
    )
    device = torch.device(case.device)
    model = load_adaclip(**case.model_arguments, device=device)
    model.recompute_activations = case.recompute_activations
    optimizer = make_optimizer(model)
    images, categories, labels, masks = labelled_batch(
        case.batch_size, model.settings.image_size, first=rank
    )
    batch = (images.to(device), categories, labels.to(device), masks.to(device))
    step: Callable[[], object] = partial(
        training_step,
        model,
        optimizer,
        *batch,
        share=1 / case.num_workers,
        reduce_gradients=sum_over_workers,
    )
    if case.released:
        prepare(model)
        step = partial(released_step, model, optimizer, *batch)
    before = _forget_peak(device)
    seconds, cpu_s = [], []
    for _ in range(1 + case.num_steps):
        wall, cpu = time.monotonic(), time.process_time()
        step()
        seconds.append(time.monotonic() - wall)
        cpu_s.append(time.process_time() - cpu)
    dist.destroy_process_group()
    return {
        "seconds": seconds[1:],
        "cpu_s": cpu_s[1:],
        "before": before,
        "peak": _peak(device),
    }


def _forget_peak(device: torch.device) -> int:
    """Bytes that are held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    reset_peak_memory()
    return memory_bytes("VmRSS")


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return memory_bytes("VmHWM")


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
    pixels = np.stack([s.image for s in samples]).astype(np.float32) / 255
    images = ((pixels - np.array(MEAN)) / np.array(STD)).astype(np.float32).transpose(0, 3, 1, 2)
    labels = torch.tensor([int(s.mask.any()) for s in samples])
    masks = torch.from_numpy(np.stack([s.mask for s in samples]))
    return torch.from_numpy(np.ascontiguousarray(images)), categories, labels, masks


def _name(case: Case) -> str:
    if case.released:
        return "as released"
    more = ", activations recomputed" if case.recompute_activations else ""
    more += "" if case.flush_denormals else ", denormals kept"
    return f"batch {case.batch_size} x {case.num_workers}{more}"
