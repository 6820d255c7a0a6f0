"""The real job under a stand-in: what it keeps of a known speed, on a Ray of its own."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.benchmark.run import COLUMNS
from pipeline.benchmark.tables import table
from pipeline.benchmark.whole_job import kept, measure_feeding
from pipeline.config import BenchmarkConfig


def result(**changes: Any) -> dict[str, Any]:
    """Two scorers of 10 images/s did 400 images in 25 s, 20 s after their first batch each."""
    made = {"images": 400, "num_actors": 2, "images_per_s": 16.0, "busy_cpus": 0.5}
    return {**made, "seconds": {"score": 40.0}, **changes}


def test_shares_are_of_the_scorers_own_rate_with_and_without_the_start() -> None:
    found = kept(result(), 10.0)
    assert found["bare_images_per_s"] == 20.0
    assert found["share_of_bare"] == 0.8
    assert found["steady_share_of_bare"] == 1.0
    assert found["limited_by"] == "scorer"


@pytest.mark.parametrize(
    ("busy", "limit"), [(0.97, "CPUs"), (0.5, "neither scorer nor CPUs"), (None, "neither")]
)
def test_scorers_that_waited_were_held_back_by_something(busy: float | None, limit: str) -> None:
    found = kept(result(seconds={"score": 80.0}, busy_cpus=busy), 10.0)
    assert found["steady_share_of_bare"] == 0.5
    assert found["limited_by"].startswith(limit)


def test_feeding_runs_the_real_graph_with_simulated_gpus(told: list[str]) -> None:
    config = BenchmarkConfig(
        scorer_rate=(500.0,),
        num_images=(48,),
        photo_size=(64,),
        num_actors=(2,),
        image_size=56,
        address="local",
    )
    (found,) = measure_feeding(config)
    assert told == ["48 images of 64 px, scorer of 500 images/s"]
    assert (found["images"], found["num_actors"], found["bare_images_per_s"]) == (48, 2, 1000.0)
    assert 0 < found["share_of_bare"] < 1  # 48 images don't outlast the start
    assert 0 < found["steady_share_of_bare"] <= 1.01
    assert found["peak_memory_bytes"]["object_stores"] >= 0  # blocks may come and go unseen
    assert found["spilled_bytes"] == 0
    assert found["bytes_per_image"] > 0
    assert table([found], COLUMNS["feeding"])
