"""The images of the page in a browser: found, coloured, enlarged and copied, a thousand of them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from pipeline.report.gallery import Picture
from pipeline.report.page import render
from tests import outputs
from tests.browser.conftest import HOSTILE, NUM_IMAGES, Open
from tests.bucket import jpeg


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
    expect(page.locator(".card")).to_have_count(NUM_IMAGES - 48)
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
    expect(page.locator("#status")).to_have_text("File name copied")
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


def test_an_image_that_is_gone_says_so(page: Page) -> None:
    page.fill("#filter-key", "kkkk")
    missing = page.locator(".card .missing")
    # A card's text is there once the browser has laid it out, a frame after the filter.
    said = "the image can't be read any more (not_found)"
    expect(missing).to_contain_text(said, use_inner_text=True)
    assert HOSTILE.split("\u202e")[0] in (missing.get_attribute("aria-label") or "")
    assert page.locator(".card .heat").count() == 1, "its map is there"


def many(data: dict[str, Any], count: int) -> tuple[dict[str, Any], list[Picture]]:
    """The same page with more images, each with a picture of its own."""
    rows = [data["gallery"][i % 60] | {"uri": f"s3://b/{i}.jpg"} for i in range(count)]
    pictures = []
    for i in range(count):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(jpeg(i, (256, 170)))).save(buffer, "WEBP")
        encoded = base64.b64encode(buffer.getvalue()).decode()
        pictures.append(Picture(image=encoded, map=encoded, reference=None, problem=""))
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
