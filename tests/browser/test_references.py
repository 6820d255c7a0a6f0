"""An image beside the reference image most similar to it, which an inspector holds it against."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page

from pipeline.report.page import make_page
from pipeline.report.scope import Query
from pipeline.storage import stat, write_object
from tests import outputs
from tests.browser.conftest import Open
from tests.bucket import jpeg

RUN = "20260101T020000Z-abcdef"


@pytest.fixture
def paired(tmp_path: Path, open_page: Open) -> Page:
    """The page of bolts with references, one of which is gone, and of nuts without."""
    (tmp_path / "good.jpg").write_bytes(jpeg(100, (64, 96)))
    rows = []
    for i in range(4):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(i))
        row = outputs.scored(f"file://{tmp_path}", i, 1.0 if i % 2 else 0.5)
        rows.append(row | {"etag": stat(str(row["uri"])).etag, "score_logit": 10.0 + i})
    for row, name in ((rows[1], "good"), (rows[3], "gone")):
        row |= {"zero_shot_score": 0.41, "reference_score": 0.9}
        row["nearest_reference"] = f"file://{tmp_path}/{name}.jpg"
    output = f"{tmp_path}/out"
    before = [outputs.scored("file:///x", 1, 0.2)]
    outputs.write(output, before, "2026-01-01", run_id="20260101T010000Z-0")
    outputs.write(output, rows, "2026-01-01", run_id=RUN, references={"bolt": "7e"})
    review = {
        "references": {"bolt": "7e"},
        "alert": {
            "fired": False,
            "reasons": [],
            "rule": {"nights": 30},
            "uncalibrated": {},
            "outdated": ["bolt"],
        },
    }
    write_object(f"{output}/runs/{RUN}/review.json", json.dumps(review).encode())
    file = tmp_path / "report.html"
    file.write_bytes(make_page(output, Query(nights=1)))
    return open_page(file)


def test_the_nearest_reference_stands_beside_the_image(paired: Page) -> None:
    cards = paired.locator(".card")
    assert cards.locator(".key-name").all_text_contents() == ["3.jpg", "1.jpg", "2.jpg", "0.jpg"]
    assert cards.nth(1).locator(".caption").inner_text() == "most similar reference"
    assert "AdaCLIP alone 0.410" in cards.nth(1).inner_text()
    image = cards.nth(1).locator(".picture").bounding_box()
    reference = cards.nth(1).locator(".reference img").bounding_box()
    assert image
    assert reference
    assert reference["x"] >= image["x"] + image["width"]
    assert reference["y"] < image["y"] + image["height"]
    alt = cards.nth(1).locator(".reference img").get_attribute("alt") or ""
    assert alt.endswith("/good.jpg")


def test_a_reference_that_is_gone_and_none_at_all_are_told_apart(paired: Page) -> None:
    said = paired.locator(".card .reference").all_inner_texts()
    assert said[0] == "the reference image can't be read any more"
    assert said[2:] == ["no references"] * 2
    assert "AdaCLIP alone" not in paired.locator(".card").nth(2).inner_text()


def test_the_enlarged_image_keeps_it_beside(paired: Page) -> None:
    paired.locator(".card .open").nth(1).click()
    image = paired.locator("#viewer-picture").bounding_box()
    reference = paired.locator("#viewer-reference").bounding_box()
    assert image
    assert reference
    assert image["width"] > 300
    assert reference["width"] > 300
    assert reference["x"] >= image["x"] + image["width"] - 1
    facts = " ".join(paired.locator("#viewer-facts").inner_text().split())
    assert "AdaCLIP alone 0.410 References alone 0.900" in facts
    assert "/good.jpg" in facts
    paired.keyboard.press("ArrowRight")
    assert not paired.locator("#viewer-reference").is_visible()


def test_what_does_not_compare_is_said(paired: Page) -> None:
    notices = paired.locator("#notices").inner_text()
    assert "1 row with other references is left out" in notices
    assert "Thresholds of other references: calibrate again" in notices


def test_a_narrow_screen_holds_both(paired: Page) -> None:
    paired.set_viewport_size({"width": 390, "height": 844})
    assert paired.evaluate("document.documentElement.scrollWidth") <= 390
