"""A night's listing against its ledger: what is new is found, and figures fit together."""

from __future__ import annotations

from pipeline.benchmark.listing import measure_listing
from pipeline.benchmark.run import COLUMNS
from pipeline.benchmark.tables import table
from pipeline.config import BenchmarkConfig


def test_one_object_in_a_hundred_is_new_and_figures_fit_together(told: list[str]) -> None:
    config = BenchmarkConfig(part=("listing",), num_images=(1_500, 12_000))
    rows = measure_listing(config)
    assert told == ["1,500 objects", "12,000 objects"]
    assert [(row["objects"], row["new"]) for row in rows] == [(1_500, 15), (12_000, 120)]
    for row in rows:
        assert 0 < row["imports_bytes"] <= row["ledger_bytes"] <= row["peak_bytes"]
        assert 0 < row["read_bytes"] < row["table_bytes"]
        assert row["manifest_cpu_s"] > 0
    assert table(rows, COLUMNS["listing"])
