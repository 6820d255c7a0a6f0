"""Many categories in one scorer: sets are read as often as their order says, and let go."""

from __future__ import annotations

import pytest

from pipeline.benchmark import many_categories
from pipeline.benchmark.many_categories import measure_categories
from pipeline.benchmark.run import COLUMNS
from pipeline.benchmark.tables import table
from pipeline.config import BenchmarkConfig


def test_sorted_images_read_each_set_once_and_shuffled_ones_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(many_categories, "IMAGES_EACH", 2)
    rows = measure_categories(BenchmarkConfig(num_threads=1), num_categories=6)
    assert [row["order"] for row in rows] == ["sorted", "shuffled"]
    for row in rows:
        assert (row["categories"], row["images"], row["held"]) == (6, 12, 1)
        assert 0 < row["peak_bytes"] <= row["max_bytes"]
    assert rows[0]["loads"] == 6 < rows[1]["loads"] <= 12
    assert rows[0]["loss"] == rows[0]["alone_loss"] == 0
    assert table(rows, COLUMNS["categories"])
