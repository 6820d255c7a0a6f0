"""Pixel metrics beside the same by sorting: the peer is right, and figures fit together."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.benchmark.evaluation import (
    area_below,
    average_precision,
    measure_evaluation,
    per_region_overlap,
)
from pipeline.benchmark.run import COLUMNS
from pipeline.benchmark.tables import table
from pipeline.config import BenchmarkConfig
from tests.evaluation import oracle


@pytest.mark.parametrize("levels", [3, 2**20])
def test_the_peers_figures_are_those_of_scikit_learn_and_mvtec(levels: int) -> None:
    maps, masks = oracle.maps_and_masks(8, contrast=3, num_images=6, size=48)
    maps = (np.floor(maps * levels) / levels).astype(np.float32)
    expected = oracle.pixel_metrics(maps, masks)
    flat, labels = maps.ravel(), masks.ravel()
    assert area_below(flat, labels, 1.0) == pytest.approx(expected["pixel_auroc"], abs=1e-9)
    assert average_precision(flat, labels) == pytest.approx(expected["pixel_ap"], abs=1e-9)
    assert per_region_overlap(maps, masks) == pytest.approx(expected["pixel_aupro"], abs=1e-9)


def test_histograms_agree_with_the_peer_and_figures_fit_together(told: list[str]) -> None:
    config = BenchmarkConfig(part=("evaluation",), num_images=(4,))
    (row,) = measure_evaluation(config)
    assert told == ["4 maps"]
    assert (row["maps"], row["peer_maps"]) == (4, 4)
    assert 2 <= row["regions"] <= 12
    assert row["difference"] < 1e-4
    assert 0 < row["peer_curves_ms"] < row["peer_ms"]
    assert 0 < row["imports_bytes"] < row["peak_bytes"]
    assert 0.5 < row["pixel_auroc"] < 1
    assert table([row], COLUMNS["evaluation"])
