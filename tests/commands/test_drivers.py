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
    assert not imported(f"jobs.{job}", "torch")


def test_a_training_driver_loads_little() -> None:
    assert not imported("pipeline.distributed.training.job", "torch", "scipy", "tensorboardX")


def test_a_scoring_driver_loads_little_before_its_run() -> None:
    """With Ray connected; Ray Data comes with the first image to score, boto3 with S3."""
    modules = "jobs.score_bucket, pipeline.distributed.scoring, pipeline.distributed.cluster"
    assert not imported(modules, "ray.data", "scipy", "boto3", "torch")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("reader", ("torch", "scipy", "boto3", "pipeline.config")),
        ("reading_log", ("torch", "pyarrow", "ray.data")),
        ("training.data", ("torch", "scipy", "ray.data", "pipeline.config")),
        ("training.task", ("torch",)),
        ("training.messages", ("torch", "pyarrow", "ray")),
    ],
)
def test_what_reads_or_passes_on_loads_little(module: str, absent: tuple[str, ...]) -> None:
    """Readers, Ray Train's controller and the actors beside them: a process each."""
    assert not imported(f"pipeline.distributed.{module}", *absent)


def test_the_benchmark_measures_such_drivers() -> None:
    assert not imported("jobs.benchmark, pipeline.benchmark.whole_job", "torch", "ray.data")


def imported(modules: str, *names: str) -> list[str]:
    """Which of the names are loaded once the modules are."""
    code = f"import sys, {modules}; print(*[n for n in {names!r} if n in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return shown.split()
