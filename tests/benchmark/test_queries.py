"""Questions to a table, by two readers that have to agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.benchmark.queries import QUESTIONS, measure_queries
from pipeline.config import BenchmarkConfig


@pytest.mark.slow
def test_both_readers_find_the_same_rows(tmp_path: Path) -> None:
    found = measure_queries(BenchmarkConfig(part=("queries",), num_images=(30_000,)))
    assert [row["question"] for row in found] == [name for name in QUESTIONS for _ in range(2)]
    for ours, theirs in zip(found[::2], found[1::2], strict=True):
        assert (ours["reader"], theirs["reader"]) == ("open_results", "DuckDB")
        assert ours["found"] == theirs["found"] > 0
        assert ours["requests"] is None
