"""How long scorers take to come up, with weights in object storage and nothing on the nodes yet."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

from pipeline.config import BenchmarkConfig
from pipeline.local_cache import cache_folder
from pipeline.models.weight_cache import CACHED

from .machine import in_own_process
from .whole_job import Case, make_case, run_case

Say = Callable[[str], None]

NUM_ACTORS = (1, 4)
PHOTO = 256


def measure_start(config: BenchmarkConfig, say: Say) -> list[dict[str, Any]]:
    """Time until the first rows, and what was downloaded, by number of scorers."""
    results = []
    for num_actors in config.num_actors or NUM_ACTORS:
        say(f"start of {num_actors} scorers")
        # One image a scorer and forward pass: what is measured is not scoring.
        case = make_case(config, num_actors, PHOTO, num_actors=num_actors, batch_size=1)
        results.append(in_own_process(_start, case))
    return results


def _start(case: Case) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # of this process and the Ray that it starts
        result = run_case(case)
        fetched = sum(f.stat().st_size for f in cache_folder(CACHED).rglob("*") if f.is_file())
    return {
        "num_actors": result["num_actors"],
        "fetched_bytes": fetched,
        "model_s": result["seconds"]["model"],
        "first_rows_s": result["first_rows_s"],
        "scorer_memory_bytes": result["peak_memory_bytes"]["scorer"],
    }
