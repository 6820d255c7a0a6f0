"""How long a device waits, and what feeds it: the arithmetic; a run stands with the commands."""

from __future__ import annotations

import pytest

from pipeline.benchmark.scorer_loop import by_cores, idle_share


@pytest.mark.parametrize(
    ("busy", "share"),
    [
        ([(0.0, 4.0)], 0.0),
        ([(6.0, 8.0), (0.0, 4.0)], 0.25),
        ([(0.0, 4.0), (1.0, 2.0), (3.0, 6.0), (6.0, 8.0)], 0.0),  # streams overlap
        ([(0.0, 10.0), (1.0, 2.0), (15.0, 20.0)], 0.25),
    ],
)
def test_idle_is_what_no_interval_covers(busy: list[tuple[float, float]], share: float) -> None:
    assert idle_share(busy) == pytest.approx(share)


def test_a_device_that_computed_nothing_has_no_idle_share() -> None:
    with pytest.raises(ValueError, match="nothing"):
        idle_share([])


def test_cores_limit_until_they_feed_more_than_the_device_takes() -> None:
    rows = by_cores(0.01, 350.0, cores=(1, 2, 4))
    assert [row["images_per_s"] for row in rows] == [100.0, 200.0, 350.0]
    assert [row["limited_by"] for row in rows] == ["cores", "cores", "device"]


def test_of_an_unknown_device_only_the_cores_are_told() -> None:
    (row,) = by_cores(0.01, None, cores=(64,))
    assert row == {"cores": 64, "images_per_s": 6400.0, "limited_by": "cores"}
