"""What tiles find and cost, on small frames: tables that fit together."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.benchmark.run import COLUMNS
from pipeline.benchmark.tables import table
from pipeline.benchmark.tiles import measure_tiles
from pipeline.config import BenchmarkConfig


@pytest.fixture(scope="module")
def found() -> dict[str, list[dict[str, Any]]]:
    config = BenchmarkConfig(num_images=(2,), num_threads=1, num_steps=1, batch_size=(4,))
    return measure_tiles(config, frame=576, defects=(16,))


def test_every_way_and_rule_is_measured_on_the_same_frames(
    found: dict[str, list[dict[str, Any]]],
) -> None:
    rows = {(row["way"], row["score"]): row for row in found["finding"]}
    assert len(rows) == 5 * 4
    assert {row["frames"] for row in rows.values()} == {2 * 2 * 2}
    tiles = {way: row["tiles"] for (way, _), row in rows.items()}
    assert tiles["whole"] == 1
    assert tiles["tiles of 384"] == 4
    assert tiles["cut by hand, 192"] == 9 < tiles["tiles of 192"] == 16
    for row in rows.values():
        assert 0 <= row["image_auroc"] <= 1
        assert ("pixel_aupro" in row) == (row["score"] == "highest tile")
    assert table(found["finding"], COLUMNS["finding"])


def test_what_goes_in_comes_out_in_tiles_and_as_images(
    found: dict[str, list[dict[str, Any]]],
) -> None:
    tiled, separate = found["cost"]
    assert (tiled["images"], tiled["rows"], tiled["tiles"]) == (1, 1, 4)
    assert (separate["images"], separate["rows"], separate["ratio"]) == (4, 4, 1)
