"""Clocks for work on a CPU or a GPU, and the fastest that its matrix products get."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from pipeline import provenance

# Large enough for a product to hide what starting it costs, small enough for a second each.
MATRIX_SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
MATRIX_REPEATS = 5
NUM_KERNELS = 12

Result = TypeVar("Result")


@dataclass(frozen=True)
class Timing:
    """The same work, several times."""

    wall_s: tuple[float, ...]
    """Seconds by the clock on the wall."""
    cpu_s: tuple[float, ...]
    """Seconds of processor time over all threads of this process. For one thread on a CPU that
    others use as well, the steadier of the two; on a GPU it says nothing."""

    def as_dict(self) -> dict[str, float]:
        """Smallest and middle values."""
        return {
            "wall_min_s": rounded(min(self.wall_s)),
            "wall_median_s": rounded(statistics.median(self.wall_s)),
            "cpu_min_s": rounded(min(self.cpu_s)),
            "cpu_median_s": rounded(statistics.median(self.cpu_s)),
        }


class Stopwatch:
    """Times named calls on one device, waiting for the device before and after each."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._wall: dict[str, list[float]] = defaultdict(list)
        self._cpu: dict[str, list[float]] = defaultdict(list)

    def __call__(self, stage: str, function: Callable[[], Result]) -> Result:
        """Call ``function`` and keep what it took under the stage's name."""
        self._wait()
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        self._wait()
        self._cpu[stage].append(time.process_time() - cpu)
        self._wall[stage].append(time.perf_counter() - wall)
        return result

    def __getitem__(self, name: str) -> Timing:
        """What the calls of this name took.

        Raises:
            KeyError: there were none.
        """
        if name not in self._wall:
            raise KeyError(name)
        return Timing(tuple(self._wall[name]), tuple(self._cpu[name]))

    def clear(self) -> None:
        """Forget all calls: those that warmed up."""
        self._wall.clear()
        self._cpu.clear()

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest product of two square matrices, by the clock on the wall.

    On a CPU by processor time if there is one thread, as for ``Timing``.
    """
    fastest = 0.0
    for size in MATRIX_SIZES.get(device.type, MATRIX_SIZES["cpu"]):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        watch = Stopwatch(device)
        for _ in range(MATRIX_REPEATS):
            watch("product", lambda left=left, right=right: left @ right.mT)  # type: ignore[misc]
        fastest = max(fastest, 2 * size**3 / min(steadier(watch["product"], device)))
    return fastest


def steadier(timing: Timing, device: torch.device) -> tuple[float, ...]:
    """Processor time for one thread on a CPU, else the time on the wall."""
    return timing.cpu_s if clock_of(device) == "cpu" else timing.wall_s


def clock_of(device: torch.device) -> str:
    """Which clock ``steadier`` reads: "cpu" or "wall"."""
    return "cpu" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall"


def median_s(timing: Timing, device: torch.device) -> float:
    """Seconds of the middle call by the steadier clock."""
    return rounded(statistics.median(steadier(timing, device)))


def conditions(device: torch.device) -> dict[str, Any]:
    """What a result's seconds depend on beside the machine."""
    return {
        "clock": clock_of(device),
        "num_threads": torch.get_num_threads(),
        "device": device.type,
    }


def kernel_shares(function: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Operators by their own part of the time of one call, the largest ``NUM_KERNELS`` first."""
    on_gpu = device.type == "cuda"
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity], acc_events=True) as profiler:
        function()
    times = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in profiler.key_averages()
    }
    total = sum(times.values())
    largest = sorted(times, key=lambda name: -times[name])[:NUM_KERNELS]
    return {name: rounded(times[name] / total) for name in largest}


def reset_peak_memory(device: torch.device) -> int:
    """Forget the peak so far, such as that of loading a model; bytes that are held now.

    On a CPU those of the whole process, whose peak only Linux forgets (proc(5), clear_refs).
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if (forget := Path("/proc/self/clear_refs")).exists():
        forget.write_text("5")
    return provenance.peak_memory_bytes()


def peak_memory_bytes(device: torch.device) -> int:
    """The most bytes since the reset: allocated on a GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return provenance.peak_memory_bytes()


def rounded(value: float) -> float:
    """To four significant digits: more is noise."""
    return float(f"{value:.4g}")
