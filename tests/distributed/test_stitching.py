"""Rows of tiles become rows of images, in whatever order and tables they come."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.anomaly_map import Q8, Q15, dequantize, summarize
from pipeline.distributed.stitching import Stitcher
from pipeline.schema import scored_schema
from pipeline.tiling import WHOLE, Tiling

SIDE, WIDTH, HEIGHT = 6, 200, 130
TILING = Tiling(3, 50)
GRID = "logit_grid_q8"
LAYOUT = TILING.layout(WIDTH, HEIGHT, side=SIDE)


def grid(tile: int) -> np.ndarray:
    return np.random.default_rng(tile).normal(-3 * Q8, 2 * Q8, (SIDE, SIDE)).astype(np.int16)


def tile_row(image: str, tile: int, **more: object) -> dict[str, object]:
    logit = float(np.random.default_rng(100 + tile).normal())
    return {
        "image_id": image,
        "uri": f"file:///{image}.png",
        "category": "sheet",
        "width": WIDTH,
        "height": HEIGHT,
        "tile": tile,
        "score": 1 / (1 + np.exp(-logit)),
        "score_logit": logit,
        "zero_shot_score": tile / 100,
        "logit_grid_q8": grid(tile).ravel(),
        "grid_height": SIDE,
        "grid_width": SIDE,
        "embedding_q15": np.array([100 * tile, 100], np.int16),
        "fetch_s": 0.5 if tile == 0 else 0.0,
        "decode_s": 1.0,
        "score_s": 2.0,
        "scorer_memory": tile,
        **more,
    }


def table(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=scored_schema())


def stitched(rows: list[dict[str, object]], size: int, tiling: Tiling = TILING) -> pa.Table:
    stitcher = Stitcher(tiling, SIDE)
    cuts = range(0, len(rows), size)
    return pa.concat_tables([stitcher.add(table(rows[i : i + size])) for i in cuts])


@pytest.mark.parametrize("size", [1, 4, 100])
def test_tiles_of_two_images_in_any_order_become_two_rows(size: int) -> None:
    rows = [tile_row(image, tile) for image in ("a", "b") for tile in range(LAYOUT.num_tiles)]
    order = np.random.default_rng(0).permutation(len(rows))
    found = stitched([rows[i] for i in order], size).sort_by("image_id").to_pylist()
    assert [row["image_id"] for row in found] == ["a", "b"]
    whole = LAYOUT.stitch([grid(tile) for tile in range(LAYOUT.num_tiles)])
    summary = summarize(dequantize(whole, Q8), WIDTH, HEIGHT)
    strongest = max(rows[: LAYOUT.num_tiles], key=lambda row: row["score_logit"])  # type: ignore[arg-type, return-value]
    for row in found:
        assert (row["grid_height"], row["grid_width"]) == whole.shape == (16, 16)
        np.testing.assert_array_equal(row["logit_grid_q8"], whole.ravel())
        assert row["map_max"] == pytest.approx(summary.map_max)
        assert row["anomalous_area"] == pytest.approx(summary.anomalous_area)
        assert tuple(row[f"box_{each}"] for each in ("x0", "y0", "x1", "y1")) == summary.box
        assert row["score"] == pytest.approx(strongest["score"])
        assert row["score_logit"] == pytest.approx(strongest["score_logit"])
        assert row["zero_shot_score"] == pytest.approx((LAYOUT.num_tiles - 1) / 100)
        times = (0.5, 1.0 * LAYOUT.num_tiles, 2.0 * LAYOUT.num_tiles)
        assert (row["fetch_s"], row["decode_s"], row["score_s"]) == times
        assert np.linalg.norm(row["embedding_q15"]) / Q15 == pytest.approx(1, abs=1e-3)
        assert row["scorer_memory"] == LAYOUT.num_tiles - 1


def test_an_image_of_one_tile_and_one_without_pixels_pass_as_they_are() -> None:
    small = tile_row("small", 0, width=50, height=20)
    damaged = {"image_id": "damaged", "error": "truncated", "error_message": "cut short"}
    assert stitched([small, damaged], 2) == table([small, damaged])
    assert stitched([small, damaged], 2, WHOLE) == table([small, damaged])


def test_the_error_of_one_tile_is_the_images() -> None:
    rows = [tile_row("a", tile) for tile in range(LAYOUT.num_tiles)]
    rows[3] |= {"error": "out_of_memory", **dict.fromkeys(("score", "score_logit", GRID))}
    [row] = stitched(rows, 2).to_pylist()
    assert (row["error"], row["score"], row[GRID]) == ("out_of_memory", None, None)


@pytest.mark.parametrize("when", [0, 2, 5])
def test_an_image_whose_reader_gave_up_between_tiles_is_one_error(when: int) -> None:
    rows = [tile_row("a", tile) for tile in range(4)]
    gave_up = {"image_id": "a", "width": WIDTH, "height": HEIGHT, "error": "out_of_memory"}
    rows.insert(when, gave_up)
    rows += [tile_row("b", tile) for tile in range(LAYOUT.num_tiles)]
    found = stitched(rows, 3).to_pylist()
    assert [(row["image_id"], row["error"]) for row in found] == [
        ("a", "out_of_memory"),
        ("b", None),
    ]
