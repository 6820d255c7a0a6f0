"""Tables for a terminal."""

from __future__ import annotations

from pipeline.benchmark.tables import table


def test_columns_are_aligned_formatted_and_empty_where_nothing_was_measured() -> None:
    results = [{"name": "a", "rate": 1234.5}, {"name": "longer", "rate": None}, {"name": "c"}]
    assert table(results, {"name": "s", "rate": ",.0f"}).splitlines() == [
        "    name   rate",
        "       a  1,234",
        "  longer       ",
        "       c       ",
    ]
