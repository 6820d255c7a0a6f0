"""What every job's driver costs before it does anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "job",
    [
        *("score_bucket", "nightly_scan", "evaluate", "calibrate", "maintain", "build_references"),
        "train_auxiliary, pipeline.distributed.training.job",
    ],
)
def test_a_driver_loads_no_pytorch(job: str) -> None:
    """It would be most of a driver's memory and of the time until it answers."""
    assert not imports_pytorch(f"jobs.{job}")


@pytest.mark.parametrize(
    "module", ["reader", "training.data", "training.task", "training.messages", "reading_log"]
)
def test_what_reads_or_passes_on_loads_no_pytorch(module: str) -> None:
    """Readers, Ray Train's controller, and the actors beside them: a process each."""
    assert not imports_pytorch(f"pipeline.distributed.{module}")


def test_the_benchmark_measures_such_drivers() -> None:
    assert not imports_pytorch("jobs.benchmark, pipeline.benchmark.whole_job")


def imports_pytorch(modules: str) -> bool:
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return shown == "True\n"
