"""The output that docs/report.md's pictures are made from; no browser is needed."""

from __future__ import annotations

from pathlib import Path

from pipeline.report.page import make_page
from pipeline.report.scope import Query
from pipeline.synthetic import TEST_CATEGORIES

from .example import fill


def test_the_example_has_a_finished_run_with_all_products(tmp_path: Path) -> None:
    output = fill(tmp_path, ["2026-11-23", "2026-11-24"], per_category=1, defective=1)
    page = make_page(output, Query(run_id="20261124T020000Z-000001")).decode()
    assert "<title>2026-11-24" in page
    assert '"status":"done"' in page
    for category in TEST_CATEGORIES:
        assert f'"name":"{category}"' in page
