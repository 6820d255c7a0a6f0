"""Time and money of a larger run: plain arithmetic, and its assumptions in words."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.benchmark.projection import ASSUMPTIONS, project, table


def job(**changes: Any) -> dict[str, Any]:
    """A job of two scorers that did 100 images/s together."""
    result = {"steady_images_per_s": 100.0, "num_actors": 2, "read_ms_per_image": 20.0}
    return {**result, "bytes_per_image": 3_000.0, **changes}


def test_hours_halve_and_money_stays_as_scorers_double() -> None:
    projection = project(job(), 1e9, price_per_gpu_hour=3.0)
    first, second, *_ = projection["by_actors"]
    assert (first["actors"], second["actors"]) == (1, 2)
    assert first["hours"] == round(1e9 / 50 / 3600, 2)
    assert second["hours"] == round(1e9 / 100 / 3600, 2)
    assert {row["money"] for row in projection["by_actors"]} == {round(1e9 / 50 / 3600 * 3, 2)}


def test_storage_and_reading_cpus_follow_from_what_was_measured() -> None:
    projection = project(job(), 1e6)
    assert projection["storage_bytes"] == 3 * 10**9
    assert projection["reading_cpus_per_actor"] == 1.0  # 50 images/s of 20 ms


def test_without_a_price_there_is_no_money() -> None:
    projection = project(job(), 1e6)
    assert {row["money"] for row in projection["by_actors"]} == {None}
    assert "None" not in table(projection)


def test_a_job_without_a_rate_says_what_to_change() -> None:
    with pytest.raises(ValueError, match="--num-images"):
        project(job(steady_images_per_s=None), 1e9)


def test_the_table_tells_numbers_and_every_assumption() -> None:
    shown = table(project(job(), 1e9, price_per_gpu_hour=3.0))
    assert "1,000,000,000 images at 50 images/s" in shown
    assert "16,666.67" in shown
    assert all(assumption in shown for assumption in ASSUMPTIONS)
