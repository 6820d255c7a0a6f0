"""What every job's driver costs before it does anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "job", ["score_bucket", "nightly_scan", "evaluate", "calibrate", "maintain"]
)
def test_a_driver_that_trains_nothing_loads_no_pytorch(job: str) -> None:
    """It would be most of a driver's memory and of the time until it answers."""
    code = f"import sys, jobs.{job}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
