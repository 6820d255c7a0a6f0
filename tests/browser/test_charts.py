"""The charts of the page in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from pipeline.report.page import make_page
from pipeline.report.scope import Query
from pipeline.storage import write_object
from tests import outputs
from tests.browser.conftest import Open


def test_charts_are_drawn_with_the_past_and_the_threshold(page: Page) -> None:
    page.locator("#category-table button", has_text="bolt").click()
    assert page.locator("#chart-title").inner_text() == "bolt"
    assert page.locator("#chart-scores .bars .point").count() > 5
    assert page.locator("#chart-scores .scatterlayer .trace").count() == 2, "past and gallery"
    assert page.locator("#chart-scores .shapelayer path").count() == 1
    assert "alert over 0.655" in (page.locator("#chart-scores .annotation").text_content() or "")
    assert page.locator("#chart-nights .scatterlayer .trace").count() == 6
    assert page.locator("#chart-counts .bars .point").count() > 5
    assert "median" in (page.locator("#chart-scores").get_attribute("aria-label") or "")


@pytest.mark.parametrize("errors", [6, 1, 0])
def test_a_failed_run_had_a_chart_that_ran_backwards(
    tmp_path: Path, open_page: Open, errors: int
) -> None:
    """From 1 to 0, with shares of 0 %, 0 % and 0 %."""
    run_id, output = "20260105T020000Z-x", f"{tmp_path}/out"
    report: dict[str, Any] = {"run_id": run_id, "status": "too_many_errors", "model": "m"}
    report["settings"] = {"scan_date": "2026-01-05"}
    write_object(f"{output}/runs/{run_id}/report.json", json.dumps(report).encode())
    if errors:
        rows = [outputs.scored("file:///gone", i, None) for i in range(errors)]
        outputs.write(output, rows, "2026-01-05", run_id=run_id)
    (tmp_path / "page.html").write_bytes(make_page(output, Query(run_id=run_id)))
    page = open_page(tmp_path / "page.html")
    told = {6: ": 6 errors, listed below.", 1: ": 1 error, listed below.", 0: "."}[errors]
    expect(page.locator("#chart-none")).to_have_text(f"Nothing was scored{told}")
    shown = page.locator("#chart-scores, #legend, #chart-nights, #chart-counts, #tools")
    assert not shown.filter(visible=True).count()
    assert "too many errors" in page.locator("#notices").inner_text()


@pytest.mark.parametrize("chart", ["chart-nights", "chart-counts"])
@pytest.mark.parametrize("load_again", [True, False])
def test_dates_below_a_chart_of_a_narrow_window_do_not_overlap(
    folder: Path, open_page: Open, chart: str, load_again: bool
) -> None:
    page = open_page(folder / "report.html")
    page.set_viewport_size({"width": 390, "height": 844})
    if load_again:
        page.reload()
    page.wait_for_function(
        """(chart) => {
        const boxes = [...document.querySelectorAll(`#${chart} .xtick text`)]
            .map((label) => label.getBoundingClientRect()).sort((a, b) => a.left - b.left);
        return document.querySelector(`#${chart} .main-svg`).clientWidth < 390
            && boxes.length > 1 && boxes.every((box, i) => !i || boxes[i - 1].right < box.left);
        }""",
        arg=chart,
        timeout=20_000,
    )
