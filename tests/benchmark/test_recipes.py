"""How good weights become: what is compared is what the rows say."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.benchmark import recipes
from pipeline.benchmark.recipes import Recipe, measure_recipes
from pipeline.benchmark.run import COLUMNS
from pipeline.benchmark.tables import table
from pipeline.config import BenchmarkConfig


@pytest.mark.slow
def test_every_recipe_and_set_of_products_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "NUM_PRODUCTS", 1)
    monkeypatch.setattr(recipes, "EPOCHS", 1)
    monkeypatch.setattr(recipes, "SIZE", 64)
    monkeypatch.setattr(recipes, "SEEDS", (0, 0))
    compared = [Recipe("image", 2, 0.001), Recipe("rows", 2, 0.001)]
    config = BenchmarkConfig(part=("recipes",), model="small", num_images=(4,), num_threads=1)
    rows = measure_recipes(config, compared)
    assert [(row["dice"], row["products"]) for row in rows] == [
        (dice, products) for dice in ("image", "rows") for products in ("lines", "invented")
    ]
    for row in rows:
        assert (row["images"], row["tested"]) == (4, 12)
        assert 0 <= row["image_auroc"] <= 1
        assert row["image_auroc_spread"] == row["pixel_ap_spread"] == 0, "the same seed twice"
    assert not np.isclose(rows[0]["pixel_ap"], rows[2]["pixel_ap"], rtol=1e-9), "another loss"
    table(rows, COLUMNS["recipes"])
