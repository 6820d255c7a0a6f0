"""Clocks and peaks on this CPU: that they add up, not how fast it is."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.benchmark.timing import (
    MATRIX_SIZES,
    Stopwatch,
    Timing,
    clock_of,
    kernel_shares,
    matrix_peak,
    peak_memory_bytes,
    reset_peak_memory,
    rounded,
)

CPU = torch.device("cpu")


def test_a_stopwatch_keeps_every_call_and_passes_the_result_on() -> None:
    watch = Stopwatch(CPU)
    assert [watch("square", lambda x=x: x**2) for x in (2, 3)] == [4, 9]
    assert len(watch["square"].wall_s) == len(watch["square"].cpu_s) == 2
    assert all(seconds >= 0 for seconds in watch["square"].wall_s)


def test_waiting_passes_on_the_wall_and_not_on_the_processor() -> None:
    watch = Stopwatch(CPU)
    watch("sleep", lambda: time.sleep(0.05))
    assert watch["sleep"].wall_s[0] >= 0.05 > watch["sleep"].cpu_s[0]


def test_a_cleared_stopwatch_knows_no_calls() -> None:
    watch = Stopwatch(CPU)
    watch("once", lambda: None)
    watch.clear()
    with pytest.raises(KeyError, match="once"):
        watch["once"]


def test_a_timing_gives_smallest_and_middle_values() -> None:
    timing = Timing(wall_s=(3.0, 1.0, 2.0), cpu_s=(0.4, 0.5, 0.3))
    assert timing.as_dict() == {
        "wall_min_s": 1.0,
        "wall_median_s": 2.0,
        "cpu_min_s": 0.3,
        "cpu_median_s": 0.4,
    }


def test_only_one_thread_on_a_cpu_goes_by_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clock_of(CPU) == "cpu"  # the tests run with one thread
    assert clock_of(torch.device("cuda")) == "wall"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert clock_of(CPU) == "wall"


def test_the_peak_is_that_of_the_fastest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MATRIX_SIZES, "cpu", (32, 64))
    assert matrix_peak(CPU, torch.float32) > 0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs /proc")
def test_a_peak_is_forgotten_when_it_is_reset() -> None:
    block = np.ones(30_000_000)
    with_block = reset_peak_memory(CPU)
    assert peak_memory_bytes(CPU) >= with_block >= block.nbytes
    del block
    assert reset_peak_memory(CPU) < with_block - 200_000_000


def test_figures_are_rounded_to_four_digits() -> None:
    assert rounded(0.00123456) == 0.001235
    assert rounded(98765.4) == 98770.0


def test_operators_are_listed_by_their_part_of_the_time() -> None:
    left = torch.randn(256, 256)
    shares = kernel_shares(lambda: (left @ left).relu(), CPU)
    assert next(iter(shares)) == "aten::mm"
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
