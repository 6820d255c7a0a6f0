"""The charts of the page in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

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
