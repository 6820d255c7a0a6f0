"""The page in a browser: what a person sees, without an error and without a request."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from pipeline.report.page import make_page
from tests import outputs
from tests.browser.conftest import Open


def test_the_page_shows_what_the_run_found(page: Page) -> None:
    assert page.title() == "2026-01-05 · out"
    tiles = " ".join(page.locator("#tiles").inner_text().split())
    assert "Scored 70" in tiles
    assert "Errors 1" in tiles
    assert "Over threshold 3" in tiles
    assert "Rate 7.10 images/s" in tiles
    assert "Listed 80 9 scored before" in tiles
    table = page.locator("#category-table tbody tr")
    assert table.count() == 4
    assert "All categories" in table.first.inner_text()
    assert "drift" in page.locator("#category-table tr", has_text="nut").inner_text()
    assert "cut short" not in page.locator("#error-list").inner_text()
    assert "truncated" in page.locator("#error-list").inner_text()
    assert page.locator("#run-table tbody tr").count() == 1
    assert page.locator(".notice.bad").count() == 2, "the alert and the run's status"
    assert page.locator("#needs-script").count() == 0


@pytest.mark.parametrize(
    ("policy", "java_script"), [("default-src 'self'", True), ("script-src *", False)]
)
def test_a_page_whose_script_is_forbidden_says_so(
    folder: Path, browser: Browser, policy: str, java_script: bool
) -> None:
    """By the server, or in the browser's settings."""
    served = (folder / "report.html").read_bytes()
    headers = {"Content-Security-Policy": policy, "Content-Type": "text/html"}
    context = browser.new_context(java_script_enabled=java_script)
    page = context.new_page()
    page.route("http://reports/*", lambda route: route.fulfill(body=served, headers=headers))
    page.goto("http://reports/report.html")
    assert "the browser did not run it" in page.locator("#needs-script").inner_text()
    assert not page.locator("h1, h2, a, button, table").filter(visible=True).count()
    context.close()


def test_help_and_search_have_keys(page: Page) -> None:
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert "opacity of the map" in page.locator("#help").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    page.keyboard.press("/")
    page.keyboard.type("b+?69")
    assert page.locator("#filter-key").input_value() == "b+?69", "letters are text where one types"
    assert not page.locator("#help").is_visible()


def test_one_of_a_kind_was_counted_as_several(tmp_path: Path, open_page: Open) -> None:
    """It said "Runs" and "1 categories", and had a column of what is over no threshold."""
    outputs.write(str(tmp_path / "out"), [outputs.scored("file:///gone", 1, 0.5)], "2026-01-05")
    (tmp_path / "one.html").write_bytes(make_page(str(tmp_path / "out")))
    page = open_page(tmp_path / "one.html")
    assert "1 category" in page.locator("#tiles").inner_text()
    assert page.locator("#runs-title, #runs-link").all_inner_texts() == ["Run", "Run"]
    titles = page.locator("#category-table thead th").all_inner_texts()
    assert titles == ["Category", "Images", "Errors", "Median", "95 %", "Highest"]
    assert page.locator("#category-hint").inner_text() == "", "there is no other to click"
    ticks = page.locator("#chart-scores .xtick text").all_text_contents()
    assert len({*ticks}) == len(ticks) > 1, "0.5, 0.5, 0.5"


def test_several_runs_are_runs(folder: Path, open_page: Open) -> None:
    page = open_page(folder / "nights.html")
    assert page.locator("#runs-title").inner_text() == "Runs"
    assert page.locator("#runs-link").inner_text() == "Runs"


def test_file_names_were_called_keys(page: Page) -> None:
    page.locator(".card .open").first.click()
    body = page.locator("body").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    body += page.locator("body").inner_text()
    assert "File name contains" in body
    assert "Copy file name" in body
    assert not re.findall(r"\bkeys?\b", body, re.I)


def test_hostile_names_stay_text(page: Page) -> None:
    """In the card, the table, the choices, the errors, the notices and the viewer."""
    assert page.locator("b", has_text="b").filter(has_not_text="0").count() == 0
    assert page.locator("script").count() == 2, "the data's elements are gone"
    assert page.locator("img[src='x']").count() == 0
    assert "<script>alert(1)" in (page.locator("#filter-category").text_content() or "")
    for place in ("#category-table", "#error-list", "#notices"):
        text = page.locator(place).text_content() or ""
        assert "</script><script>alert(1)</script>" in text
        assert "\\u202egpj.evil" in text
        assert "\u202e" not in text
    page.fill("#filter-key", "kkkk")
    page.locator(".card .open").click()
    assert "<img src=x onerror=alert(2)>" in page.locator("#viewer-key").inner_text()
    assert "\u202e" not in page.content()
    page.keyboard.press("Escape")
    page.locator("#category-table button", has_text="alert(1)").click()
    assert "<b>b</b>" in page.locator("#chart-title").inner_text()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 1280, "a long key does not widen the page"


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_dark_and_light(folder: Path, open_page: Open) -> None:
    light = open_page(folder / "report.html", color_scheme="light")
    dark = open_page(folder / "report.html", color_scheme="dark")
    assert (background(light), background(dark)) == ("rgb(246, 247, 249)", "rgb(20, 23, 28)")
    light.click("#theme")
    assert background(light) == background(dark)
    assert light.get_attribute("#theme", "aria-pressed") == "true"
    tick = "getComputedStyle(document.querySelector('#chart-scores .xtick text')).fill"
    assert light.evaluate(tick) == dark.evaluate(tick), "the charts follow"
    dark.keyboard.press("d")
    assert background(dark) == "rgb(246, 247, 249)"


def test_a_narrow_screen_scrolls_down_only(folder: Path, open_page: Open) -> None:
    page = open_page(folder / "report.html")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".card .open").first.click()
    assert page.locator("#viewer-copy").is_visible()


def test_everything_has_a_name(page: Page) -> None:
    """For screen readers: buttons, fields and pictures."""
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, select, input')].filter((each) =>
        !(each.textContent.trim() || each.getAttribute('aria-label') || each.labels?.length))
        .map((each) => each.outerHTML)"""
    )
    assert nameless == []
    alts = page.locator(".card img").evaluate_all("all => all.map(each => each.alt)")
    assert len(alts) > 40
    assert all("score 0." in alt for alt in alts)
    assert page.locator("html").get_attribute("lang") == "en"


def test_several_nights_can_be_filtered_by_night(folder: Path, open_page: Open) -> None:
    page = open_page(folder / "nights.html")
    assert "2026-01-03 to 2026-01-05" in page.locator("#title").inner_text()
    assert page.locator("#filter-night option").all_inner_texts() == [
        "all",
        "2026-01-03",
        "2026-01-04",
        "2026-01-05",
    ]
    page.select_option("#filter-night", "2026-01-05")
    assert "of 68" in page.locator("#images-count").inner_text(), "100, by turns of 3 categories"
