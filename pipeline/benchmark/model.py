"""What the model costs on this device, beside the least that two image passes cost there.

The floor is two passes of open_clip's own image tower with the same weights, precision, batch and
image size. It is measured in turns with the model, so that a ratio survives a machine that gets
slower meanwhile. No Ray, no storage.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.models import AdaCLIP

from .stages import count_flops, plain_pass, run_stages
from .timing import (
    Stopwatch,
    Timing,
    clock_of,
    kernel_shares,
    matrix_peak,
    peak_memory_bytes,
    reset_peak_memory,
    rounded,
)

# open_clip's blocks call nn.MultiheadAttention, which has two ways of running without gradients.
FLOORS = {"fast path": True, "fused attention": False}
TRANSFERS = ("pixels to device", "results to host")


@dataclass(frozen=True)
class StageCost:
    """One stage of the model for one batch."""

    timing: Timing
    flops: int


@dataclass(frozen=True)
class ModelTimings:
    """What ``measure_model`` found; seconds and FLOPs are those of a whole batch."""

    settings: dict[str, Any]
    """What was measured: backbone, image_size, precision, batch_size, device, num_threads, ..."""
    predict: Timing
    """The model, from images on the device to scores and maps on the device."""
    floors: dict[str, Timing]
    """Two plain image passes, by the way in which open_clip runs attention."""
    floor_flops: int
    stages: dict[str, StageCost]
    transfers: dict[str, Timing]
    """Pixels to the device; scores and maps back."""
    matrix_peak: float
    """FLOP/s of the fastest large matrix product in the same precision."""
    kernels: dict[str, float]
    """The largest operators by their part of the model's time, from a profile of one call."""
    peak_memory_bytes: int
    """The most during ``predict``: allocated on a GPU, or of this process."""

    clock: str
    """What ratios and rates go by: "cpu" time for one thread on a CPU, else "wall"."""

    @property
    def floor(self) -> Timing:
        """The faster of the floors."""
        return min(self.floors.values(), key=lambda timing: statistics.median(self._of(timing)))

    @property
    def ratio(self) -> float:
        """Time of the model over that of the floor, medians."""
        return self._ratio(statistics.median)

    @property
    def flops(self) -> int:
        """Of the whole model."""
        return sum(stage.flops for stage in self.stages.values())

    @property
    def images_per_s(self) -> float:
        """By the fastest run."""
        return float(self.settings["batch_size"] / min(self._of(self.predict)))

    @property
    def flops_per_s(self) -> float:
        """By the fastest run."""
        return self.flops / min(self._of(self.predict))

    @property
    def text_share(self) -> float:
        """Time of the text over that of all stages, medians."""
        medians = {k: statistics.median(self._of(v.timing)) for k, v in self.stages.items()}
        return medians["text"] / sum(medians.values())

    def as_dict(self) -> dict[str, Any]:
        """All of it and what follows from it, for JSON."""
        stages = {
            name: {
                **cost.timing.as_dict(),
                "gflops": rounded(cost.flops / 1e9),
            }
            for name, cost in self.stages.items()
        }
        return {
            "settings": self.settings,
            "predict": self.predict.as_dict(),
            "floors": {name: timing.as_dict() for name, timing in self.floors.items()},
            "ratio_to_floor": rounded(self.ratio),
            "ratio_to_floor_of_minima": rounded(self._ratio(min)),
            "clock": self.clock,
            "images_per_s": rounded(self.images_per_s),
            "text_share": rounded(self.text_share),
            "gflops": rounded(self.flops / 1e9),
            "floor_gflops": rounded(self.floor_flops / 1e9),
            "achieved_gflops_per_s": rounded(self.flops_per_s / 1e9),
            "matrix_peak_gflops_per_s": rounded(self.matrix_peak / 1e9),
            "share_of_matrix_peak": rounded(self.flops_per_s / self.matrix_peak),
            "peak_memory_bytes": self.peak_memory_bytes,
            "stages": stages,
            "transfers": {name: timing.as_dict() for name, timing in self.transfers.items()},
            "kernels": self.kernels,
        }

    def _of(self, timing: Timing) -> tuple[float, ...]:
        return timing.cpu_s if self.clock == "cpu" else timing.wall_s

    def _ratio(self, of: Callable[[Sequence[float]], float]) -> float:
        return of(self._of(self.predict)) / of(self._of(self.floor))


def measure_model(
    model: AdaCLIP,
    *,
    batch_size: int = 1,
    repeats: int = 5,
    category: str = "metal nut",
) -> ModelTimings:
    """Time a loaded model on noise, stage by stage and whole, in turns with the floor.

    Args:
        model: on the device and in the precision that are to be measured. Its weights don't
            matter, so random ones will do.
        batch_size: images a forward pass.
        repeats: rounds of everything, after one that isn't counted.
        category: class name of the images; a longer one makes a longer text.

    Raises:
        ValueError: ``batch_size`` or ``repeats`` below 1.
    """
    if batch_size < 1 or repeats < 1:
        raise ValueError(f"batch_size={batch_size} and repeats={repeats} must be at least 1")
    size, device, dtype = model.settings.image_size, model.device, model.position_embedding.dtype
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batch_size, size, size, 3), generator=generator).byte()
    images = torch.randn(batch_size, 3, size, size, generator=generator).to(device, dtype)
    categories = [category] * batch_size
    watch = Stopwatch(device)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        with torch.inference_mode():
            model.predict(images, categories)
            reset_peak_memory(device)
            model.predict(images, categories)
            peak_memory = peak_memory_bytes(device)
            _one_round(model, images, categories, pixels, watch)
            watch.clear()
            for _ in range(repeats):
                _one_round(model, images, categories, pixels, watch)
            kernels = kernel_shares(lambda: model.predict(images, categories), device)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    floor = count_flops(lambda watch: watch("pass", lambda: plain_pass(model, images)))
    ours = count_flops(lambda watch: run_stages(model, images, categories, watch))
    return ModelTimings(
        settings={
            "backbone": model.name,
            "image_size": size,
            "precision": str(dtype).removeprefix("torch."),
            "batch_size": batch_size,
            "repeats": repeats,
            "category": category,
            "device": device.type,
            "num_threads": torch.get_num_threads(),
        },
        predict=watch["predict"],
        floors={name: watch[name] for name in FLOORS},
        floor_flops=2 * floor["pass"],
        stages={name: StageCost(watch[name], flops) for name, flops in ours.items()},
        transfers={name: watch[name] for name in TRANSFERS},
        matrix_peak=matrix_peak(device, dtype),
        kernels=kernels,
        peak_memory_bytes=peak_memory,
        clock=clock_of(device),
    )


def _one_round(
    model: AdaCLIP,
    images: Tensor,
    categories: Sequence[str],
    pixels: Tensor,
    watch: Stopwatch,
) -> None:
    def floor() -> None:
        plain_pass(model, images)
        plain_pass(model, images)

    for name, fast_path in FLOORS.items():
        torch.backends.mha.set_fastpath_enabled(fast_path)
        watch(name, floor)
    prediction = watch("predict", lambda: model.predict(images, categories))
    run_stages(model, images, categories, watch)
    to_device, to_host = TRANSFERS
    watch(to_device, lambda: pixels.to(model.device))
    watch(to_host, lambda: [x.cpu() for x in (prediction.score, prediction.logit_grid)])
