"""Large images in tiles, on a real local Ray: the model's values of each tile, one map, one row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.anomaly_map import render, summarize
from pipeline.config import ScoreConfig
from pipeline.distributed.scoring import score_bucket
from pipeline.images import preprocess
from pipeline.images.tiles import squares
from pipeline.results import open_results
from pipeline.storage import write_object
from tests import golden
from tests.image_files import encode

pytestmark = pytest.mark.usefixtures("local_ray")


def test_a_large_image_is_scored_in_tiles(golden_files: dict[str, str], tmp_path: Path) -> None:
    size = golden.IMAGE_SIZE
    large, small = encoded(3 * size, 2 * size - 30), encoded(size, size)
    for name, data in (("large", large), ("small", small)):
        write_object(f"{tmp_path}/images/bolt/{name}.png", data)
    config = ScoreConfig(
        input=(f"{tmp_path}/images",),
        output=f"{tmp_path}/scores",
        image_size=size,
        tiles=4,
        embeddings=True,
        **golden_files,  # type: ignore[arg-type]
    )
    assert score_bucket(config).as_dict()["counts"]["scored"] == 2
    rows = pd.read_parquet(f"{config.output}/scores")
    rows = rows.set_index(rows.uri.str.rsplit("/", n=1).str[1])
    assert rows.model.astype(str).str.endswith(f"-tiles4of{size}").all()

    layout = config.tiling.layout(3 * size, 2 * size - 30, side=12)
    assert layout.num_tiles > 4
    cut = squares(large, size, tiling=config.tiling, side=12)
    pixels = [preprocess(Image.fromarray(each), size) for each in cut.pixels]
    images = np.stack([*pixels, preprocess(small, size)])
    expected = golden.load(golden_files).predict(images, ["bolt"] * len(images))
    results, row = open_results(config.output), rows.loc["large.png"]
    assert rows.score["small.png"] == pytest.approx(expected.score[-1].item(), abs=1e-5)
    assert row.score == pytest.approx(expected.score[:-1].max().item(), abs=1e-5)
    grid = layout.stitch(list(expected.logit_grid[:-1].numpy()))
    np.testing.assert_allclose(results.map(row), render(grid, (2 * size - 30, 3 * size)), atol=0.01)
    for name, found in (("large.png", grid), ("small.png", expected.logit_grid[-1].numpy())):
        summary = summarize(found.astype(np.float16), rows.width[name], rows.height[name])
        assert rows.map_max[name] == pytest.approx(summary.map_max, abs=1e-3)
        assert rows.anomalous_area[name] == pytest.approx(summary.anomalous_area, abs=0.01)
        assert 0 <= rows.box_x0[name] < rows.box_x1[name] <= rows.width[name]
    scored = results.scores()
    large_row = scored[scored.uri.str.endswith("large.png")].iloc[0]
    assert results.overlay(large_row, caption=False).width == 3 * size
    assert len(results.similar(large_row)) == 1


def encoded(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    return encode(Image.fromarray(pixels).resize((width, height)), "PNG")
