"""Tables: averages over what there is, nothing where there is nothing."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation import METRICS, as_markdown, as_text, metrics_table
from pipeline.evaluation.table import COLUMNS, COUNTS, ERRORS, dataset_averages

PIXEL = tuple(name for name in METRICS if name.startswith("pixel"))


def category(dataset: str, name: str, value: float, **changes: Any) -> dict[str, Any]:
    """A category whose metrics all have one value."""
    row = {"dataset": dataset, "category": name, "model": "m", "images": 10, "abnormal": 4}
    row |= {"without_mask": 0, "unusable": 0}
    return row | dict.fromkeys(METRICS, value) | dict.fromkeys(ERRORS, 1e-6) | changes


NO_PIXELS = dict.fromkeys((*PIXEL, *ERRORS), np.nan)


def test_rows_are_categories_then_averages_of_each_data_set_and_of_all() -> None:
    table = metrics_table(
        [category("b", "z", 0.4), category("b", "a", 0.8), category("a", "x", 0.9)]
    )
    assert list(table.columns) == list(COLUMNS)
    assert list(zip(table.dataset, table.category, strict=True)) == [
        ("b", "a"),
        ("b", "z"),
        ("b", "average"),
        ("a", "x"),
        ("a", "average"),
        ("average", "average"),
    ]
    assert table.image_ap.tolist() == pytest.approx([0.8, 0.4, 0.6, 0.9, 0.9, 0.75])
    assert table.images.tolist() == [10, 10, 20, 10, 10, 30]
    assert list(dataset_averages(table).dataset) == ["b", "a"]


def test_one_data_set_has_one_average() -> None:
    table = metrics_table([category("a", "x", 0.9)])
    assert list(table.category) == ["x", "average"]


def test_what_is_not_applicable_enters_no_average() -> None:
    table = metrics_table(
        [category("a", "x", 0.4), category("a", "y", 0.8, **NO_PIXELS), category("b", "z", 1.0)]
    )
    average = table[(table.dataset == "a") & (table.category == "average")].iloc[0]
    assert average.image_auroc == pytest.approx(0.6)
    assert average.pixel_auroc == pytest.approx(0.4)
    none = metrics_table([category("a", "y", 0.8, **NO_PIXELS)])
    assert none.pixel_aupro.isna().all()
    overall = table.iloc[-1]
    assert overall.pixel_auroc == pytest.approx((0.4 + 1.0) / 2)


def test_missing_metrics_are_empty_in_every_form() -> None:
    table = metrics_table([category("a", "y", 0.8125, **NO_PIXELS)])
    line = as_text(table).splitlines()[2]
    assert line.split() == ["y", "10", "4", "81.2", "81.2", "81.2"]
    assert "| y | 10 | 4 | 81.2 | 81.2 | 81.2 |  |  |  |  |" in as_markdown(table)
    text = table.to_csv(index=False).splitlines()[1]
    assert ",,,,," in text
    assert "nan" not in text.lower()
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    assert pd.read_parquet(buffer).pixel_auroc.isna().all()


def test_integers_stay_integers_and_metrics_shares() -> None:
    table = metrics_table([category("a", "y", 1.0)])
    assert all(table[name].dtype == "int64" for name in COUNTS)
    assert all(table[name].dtype == "float64" for name in (*METRICS, *ERRORS))
    assert table.image_auroc.max() == 1


def test_the_tables_say_what_they_leave_out_and_how_exact_they_are() -> None:
    table = metrics_table(
        [category("a", "y", 0.5, without_mask=3, unusable=2, pixel_ap_error=0.0004)]
    )
    for text in (as_text(table), as_markdown(table)):
        assert "3 abnormal images have no mask" in text
        assert "2 images could not be used" in text
        assert "by more than 0.04 percentage points" in text
        assert "without mask" in text
    quiet = as_text(metrics_table([category("a", "y", 0.5)]))
    assert "unusable" not in quiet
    assert "without mask" not in quiet


def test_a_name_cannot_break_a_markdown_table() -> None:
    assert "a\\|b" in as_markdown(metrics_table([category("s", "a|b", 0.5)]))


def test_models_that_differ_leave_the_average_without_one() -> None:
    table = metrics_table([category("a", "y", 0.5), category("b", "y", 0.5, model="n")])
    assert table.model.tolist() == ["m", "m", "n", "n", ""]
