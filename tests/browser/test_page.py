"""The page in a browser: what a person sees and does, without an error and without a request."""

from __future__ import annotations

import base64
import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from pipeline.report.gallery import Picture
from pipeline.report.page import make_page, render
from pipeline.report.selection import Query
from pipeline.storage import stat, write_object
from tests import outputs
from tests.browser.chromium import REMEDY, find_chromium
from tests.browser.conftest import Open
from tests.bucket import jpeg

HOSTILE = (
    "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202egpj.evil\u2028<b>b</b>"
)
RUN = "20260105T020000Z-abcdef"
NUM_IMAGES = 70


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nights of bolts and nuts; in the last one a hostile name, errors, and an alert."""
    folder = tmp_path_factory.mktemp("page")
    for i in range(NUM_IMAGES):
        (folder / f"{i}.jpg").write_bytes(jpeg(i))
    etags = [stat(f"file://{folder}/{i}.jpg").etag for i in range(NUM_IMAGES)]
    for day in range(1, 5):
        past = [outputs.scored("file:///gone", 1000 * day + i, i / 100) for i in range(20)]
        run_id = f"2026010{day}T020000Z-x"
        outputs.write(f"{folder}/out", past, f"2026-01-0{day}", run_id=run_id)
        write_object(f"{folder}/out/runs/{run_id}/report.json", b'{"status": "done"}')
    rows = [
        outputs.scored(f"file://{folder}", i, (i + 1) / 100)
        | {"etag": etags[i], "map_max": 0.5 + i / 200, "anomalous_area": 1 - i / 100}
        for i in range(NUM_IMAGES)
    ]
    rows[10] |= {"uri": f"file:///x/{HOSTILE}/" + "k" * 900, "category": HOSTILE}
    failed = outputs.scored("file:///x", 999, None)
    rows.append(failed | {"uri": f"file:///x/{HOSTILE}", "error_message": HOSTILE})
    outputs.write(f"{folder}/out", rows, "2026-01-05", run_id=RUN)
    review = {
        "alert": {
            "fired": True,
            "reasons": [f"{HOSTILE}: 1 of 1 images"],
            "rule": {"nights": 30},
            "uncalibrated": {},
            "thresholds": {"bolt": [{"measure": "score", "value": 0.655, "chance": 0.1}]},
        },
        "drift": [{"category": "nut", "drifted": True}],
    }
    report = {
        "run_id": RUN,
        "status": "too_many_errors",
        "message": HOSTILE,
        "model": "m",
        "settings": {"scan_date": "2026-01-05"},
        "counts": {"listed": 80, "scored": 70, "skipped": 9, "errors": 1, "not_reached": 0},
        "seconds": {"run": 10.0},
        "images_per_s": {"run": 7.0},
    }
    for name, found in (("review", review), ("report", report)):
        write_object(f"{folder}/out/runs/{RUN}/{name}.json", json.dumps(found).encode())
    page = make_page(f"{folder}/out", Query(run_id=RUN), gallery=100)
    (folder / "report.html").write_bytes(page)
    (folder / "nights.html").write_bytes(make_page(f"{folder}/out", Query(nights=3), gallery=100))
    return folder


@pytest.fixture
def page(folder: Path, open_page: Open) -> Page:
    """The run's page."""
    return open_page(folder / "report.html")


def scores(page: Page) -> list[float]:
    return [float(text) for text in page.locator(".card-score").all_text_contents()]


def keys(page: Page) -> list[str]:
    return page.locator(".card .key-name").all_text_contents()


def overlay(page: Page, card: int = 0) -> str:
    heat = page.locator(".card .heat").nth(card)
    return str(heat.evaluate("element => getComputedStyle(element).opacity"))


def focused(page: Page) -> int:
    """Which card of the gallery has the focus; -1 for none."""
    return int(
        page.evaluate(
            "[...document.querySelectorAll('.card')].findIndex("
            "card => card.contains(document.activeElement))"
        )
    )


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


def test_a_category_that_is_chosen_filters_the_images(page: Page) -> None:
    page.locator("#category-table button", has_text="nut").click()
    assert set(page.locator(".card-category").all_text_contents()) == {"nut"}
    assert page.locator("#filter-category").input_value() != ""
    page.locator("#category-table button", has_text="All categories").click()
    assert page.locator("#images-count").inner_text() == "1–48 of 70"


def test_images_are_sorted(page: Page) -> None:
    assert scores(page)[:4] == [0.7, 0.68, 0.66, 0.69], "first those over a threshold"
    assert page.locator(".card.over").count() == 3
    page.select_option("#sort", "score-up")
    assert scores(page) == sorted(scores(page))
    assert scores(page)[0] == 0.01
    page.select_option("#sort", "anomalous_area")
    assert keys(page)[0] == "0.jpg"
    page.select_option("#sort", "map_max")
    assert keys(page)[0] == "69.jpg"
    page.select_option("#sort", "score")
    assert scores(page) == sorted(scores(page), reverse=True)
    page.select_option("#sort", "category")
    names = page.locator(".card-category").all_text_contents()
    assert names[1:] == sorted(names[1:]), "the hostile one shows escapes"


def test_images_are_filtered(page: Page) -> None:
    page.fill("#filter-score", "0.655")
    assert len(scores(page)) == 5
    page.check("#filter-over")
    assert len(scores(page)) == 3
    page.uncheck("#filter-over")
    page.fill("#filter-score", "0")
    page.fill("#filter-key", "/69.JPG")
    assert keys(page) == ["69.jpg"]
    assert page.locator("#pager").is_hidden()
    page.fill("#filter-key", "there is none")
    assert page.locator("#gallery-empty").inner_text() == "No image passes these filters."
    assert page.locator(".card").count() == 0


def test_images_come_in_pages(page: Page) -> None:
    assert page.locator(".card").count() == 48
    assert page.locator("#page-previous").is_disabled()
    page.click("#page-next")
    assert page.locator(".card").count() == NUM_IMAGES - 48
    assert page.locator("#images-count").inner_text() == "49–70 of 70"
    assert page.locator("#page-next").is_disabled()
    page.select_option("#page-size", "24")
    assert page.locator(".card").count() == 24
    assert page.locator("#page-shown").inner_text() == "1 of 3"
    page.locator("#images-title").click()  # out of the fields
    page.keyboard.press("]")
    assert page.locator("#page-shown").inner_text() == "2 of 3"
    page.keyboard.press("[")
    assert page.locator("#page-shown").inner_text() == "1 of 3"


def test_the_slider_changes_the_maps_opacity(page: Page) -> None:
    assert overlay(page) == "0.6"
    page.locator("#tools .opacity").fill("25")
    assert overlay(page) == overlay(page, 5) == "0.25"
    assert page.locator("#tools .opacity-shown").inner_text() == "25 %"
    page.locator("#tools .opacity").blur()
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.keyboard.press("-")
    assert overlay(page) == "0.35"
    page.keyboard.press("b")
    assert not page.locator(".card .box").first.is_visible()
    page.keyboard.press("b")
    assert page.locator(".card .box").first.is_visible()


def test_a_map_is_coloured_where_the_image_is_abnormal(page: Page) -> None:
    """The peak of the grid is nearly opaque and its lowest point nearly clear."""
    page.fill("#filter-key", "/69.jpg")
    expect(page.locator(".card .heat")).to_have_js_property("width", 148)
    alphas = page.evaluate(
        """() => { const c = document.querySelector('.card .heat');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        const a = []; for (let i = 3; i < d.length; i += 4) a.push(d[i]); return a; }"""
    )
    grid = outputs.grid(69).astype(float)
    assert max(alphas) / 255 == pytest.approx(1 / (1 + 2.718281828 ** -grid.max()), abs=0.05)
    assert min(alphas) / 255 == pytest.approx(1 / (1 + 2.718281828 ** -grid.min()), abs=0.05)


def test_the_box_lies_where_the_row_says(page: Page) -> None:
    picture = page.locator(".card .picture").first.bounding_box()
    box = page.locator(".card .box").first.bounding_box()
    assert picture
    assert box
    assert (box["x"] - picture["x"]) / picture["width"] == pytest.approx(10 / 96, abs=0.01)
    assert box["width"] / picture["width"] == pytest.approx(30 / 96, abs=0.01)
    assert (box["y"] - picture["y"]) / picture["height"] == pytest.approx(10 / 64, abs=0.01)
    assert picture["width"] / picture["height"] == pytest.approx(1.5, abs=0.02)


def test_the_keyboard_goes_from_image_to_image(page: Page) -> None:
    page.keyboard.press("ArrowRight")
    assert focused(page) == 0
    page.keyboard.press("ArrowRight")
    assert focused(page) == 1
    page.keyboard.press("ArrowDown")
    columns = page.evaluate("columnsOfGallery()")
    assert columns > 2
    assert focused(page) == 1 + columns
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert focused(page) == 0, "there is nothing before the first"
    page.locator(".card .open").nth(47).focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#page-shown").inner_text() == "2 of 2"
    assert focused(page) == 0
    tabbable = page.locator(".card button[tabindex='0']").count()
    assert tabbable == 2, "one card takes part in the order of Tab"


def test_enter_enlarges_and_escape_closes(page: Page) -> None:
    page.locator(".card .open").first.focus()
    page.keyboard.press("Enter")
    viewer = page.locator("#viewer")
    assert viewer.is_visible()
    assert page.locator("#viewer-title").inner_text() == f"{scores(page)[0]:.3f} · bolt"
    assert page.locator("#viewer-key").inner_text().endswith(f"/{keys(page)[0]}")
    assert "10, 10, 40, 40" in page.locator("#viewer-facts").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#viewer-place").inner_text() == "2 of 70"
    page.keyboard.press("-")
    assert page.locator("#viewer .opacity-shown").inner_text() == "50 %"
    frame = page.locator("#viewer-picture img").bounding_box()
    assert frame
    assert frame["width"] > 500
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    expect(page.locator(".card .open").nth(1)).to_be_focused()  # the image that was seen last


def test_the_viewer_crosses_pages_and_ends_at_the_last(page: Page) -> None:
    page.locator(".card .open").nth(47).click()
    page.keyboard.press("ArrowRight")
    assert page.locator("#viewer-place").inner_text() == "49 of 70"
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    assert page.locator("#viewer-place").inner_text() == "70 of 70"
    assert page.locator("#viewer-next").is_disabled()
    page.click("#viewer-close")
    assert page.locator("#page-shown").inner_text() == "2 of 2"


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


def test_a_key_is_copied_as_it_is(folder: Path, open_page: Open) -> None:
    page = open_page(folder / "report.html", permissions=["clipboard-read", "clipboard-write"])
    page.fill("#filter-key", "kkkk")
    page.locator(".card .copy").click()
    expect(page.locator(".card .copy")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"file:///x/{HOSTILE}/" + "k" * 900
    page.fill("#filter-key", "/69.jpg")
    page.locator("#filter-key").blur()
    page.keyboard.press("c")
    expect(page.locator("#status")).to_have_text("Key copied")
    assert str(page.evaluate("navigator.clipboard.readText()")).endswith("/69.jpg")


def test_a_key_is_copied_without_the_clipboard_of_secure_pages(
    folder: Path, open_page: Open
) -> None:
    page = open_page(folder / "report.html", permissions=["clipboard-read"])
    refuse = "navigator.clipboard.writeText = () => Promise.reject(new Error('refused'))"
    page.evaluate(f"() => {{ {refuse} }}")
    page.fill("#filter-key", "/69.jpg")
    page.locator(".card .copy").click()
    expect(page.locator(".card .copy")).to_have_text("Copied")
    assert str(page.evaluate("navigator.clipboard.readText()")).endswith("/69.jpg")


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


def test_an_image_that_is_gone_says_so(page: Page) -> None:
    page.fill("#filter-key", "kkkk")
    missing = page.locator(".card .missing")
    # A card's text is there once the browser has laid it out, a frame after the filter.
    said = "the image can't be read any more (not_found)"
    expect(missing).to_contain_text(said, use_inner_text=True)
    assert HOSTILE.split("\u202e")[0] in (missing.get_attribute("aria-label") or "")
    assert page.locator(".card .heat").count() == 1, "its map is there"


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


@pytest.mark.parametrize("chart", ["chart-nights", "chart-counts"])
def test_dates_below_a_chart_do_not_overlap(folder: Path, open_page: Open, chart: str) -> None:
    page = open_page(folder / "report.html")
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    labels = page.locator(f"#{chart} .xtick text")
    expect(labels.first).to_have_text("2026-01-01")
    boxes = sorted(
        labels.evaluate_all(
            "all => all.map(each => each.getBoundingClientRect()).map(box => [box.left, box.right])"
        )
    )
    assert len(boxes) > 1
    assert all(left[1] < right[0] for left, right in pairwise(boxes))


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


# --- many ---------------------------------------------------------------------------------------


def many(data: dict[str, Any], count: int) -> tuple[dict[str, Any], list[Picture]]:
    """The same page with more images, each with a picture of its own."""
    rows = [data["gallery"][i % 60] | {"uri": f"s3://b/{i}.jpg"} for i in range(count)]
    pictures = []
    for i in range(count):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(jpeg(i, (256, 170)))).save(buffer, "WEBP")
        encoded = base64.b64encode(buffer.getvalue()).decode()
        pictures.append(Picture(image=encoded, map=encoded, problem=""))
    return data | {"gallery": rows}, pictures


def test_a_thousand_images_keep_the_document_small(
    folder: Path, tmp_path: Path, open_page: Open
) -> None:
    page = (folder / "report.html").read_text()
    start = page.index('id="data">') + len('id="data">')
    data = json.loads(page[start : page.index("</script>", start)])
    file = tmp_path / "many.html"
    file.write_bytes(render(*many(data, 1_000)))
    opened = open_page(file)
    assert opened.locator("#images-count").inner_text() == "1–48 of 1,000"
    assert opened.locator(".card").count() == 48
    elements = "document.getElementsByTagName('*').length"
    before = opened.evaluate(elements)
    assert before < 3_000
    opened.select_option("#page-size", "96")
    for _ in range(10):
        opened.click("#page-next")
    assert opened.locator("#page-shown").inner_text() == "11 of 11"
    assert opened.locator(".card").count() == 1_000 - 960
    assert opened.evaluate(elements) <= before, "pages that were left are gone"
    image = opened.locator(".card img").first
    assert image.get_attribute("loading") == "lazy"
    assert image.get_attribute("width") == "96"


def test_a_browser_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", "/nowhere/chrome")
    with pytest.raises(FileNotFoundError, match="CHROMIUM=/nowhere/chrome is no program"):
        find_chromium()
    monkeypatch.delenv("CHROMIUM")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FileNotFoundError, match="apt-get install chromium"):
        find_chromium()
    assert "CHROMIUM=" in REMEDY
