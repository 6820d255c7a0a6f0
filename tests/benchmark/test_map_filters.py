"""Ways of filtering and ranking maps: what they are measured by is what they say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.anomaly_map import render, render_logits
from pipeline.benchmark.map_filters import WAYS, Way, figures
from pipeline.benchmark.run import COLUMNS
from pipeline.benchmark.tables import table
from tests.evaluation import oracle

SIZE, SIGMA = 48, 2.0


def grids_and_masks(times: float = 1) -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(4):
        grid = rng.normal(-1, 2, (6, 6)).astype(np.float32)
        made.append((times * grid, render(grid + rng.normal(0, 1, grid.shape), SIZE) > 0.8))
    return made


def test_every_way_gives_the_exact_figures_of_its_maps() -> None:
    made = grids_and_masks()
    found = figures(iter(made), SIZE, SIGMA)
    assert found.keys() == WAYS.keys()
    masks = np.stack([mask for _, mask in made])
    for way, rendered, sigma in (
        (Way("probabilities", "float32"), render, SIGMA),
        (Way("logits", "logits"), render_logits, SIGMA),
        (Way("nothing", "logits"), render_logits, 0.0),
    ):
        maps = np.stack([rendered(grid, SIZE, sigma) for grid, _ in made])
        expected = oracle.pixel_metrics(maps, masks)
        assert found[way] == pytest.approx(expected, abs=1e-3), way
    rows = [{"logits_times": 1, "images": 4, **way._asdict(), **found[way]} for way in found]
    assert table(rows, COLUMNS["filters"])


def test_larger_logits_cost_probabilities_alone() -> None:
    once, larger = (figures(iter(grids_and_masks(times)), SIZE, SIGMA) for times in (1, 16))
    for filtered in ("logits", "nothing"):
        way = Way(filtered, "logits")
        assert larger[way]["pixel_ap"] == pytest.approx(once[way]["pixel_ap"], abs=1e-3)
        for kind in ("float32", "float16"):
            assert larger[Way(filtered, kind)]["pixel_ap"] < larger[way]["pixel_ap"] - 0.01
