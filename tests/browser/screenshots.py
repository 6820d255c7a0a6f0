"""``make screenshots``: the pictures of docs/report.md, from an output made for them.

``python -m tests.browser.screenshots FOLDER`` keeps the output in a folder, and takes it from there
the next time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from playwright.sync_api import Page, expect, sync_playwright

from pipeline.report.page import make_page
from pipeline.report.scope import Query

from .chromium import find_chromium
from .example import DRIFTED, fill

TARGET = Path(__file__).parents[2] / "docs" / "images"
NIGHTS = [f"2026-11-{day}" for day in (16, 17, 18, 19, 20, 23, 24)]
RUN = "20261124T020000Z-000006"  # the last of them
PER_CATEGORY, DEFECTIVE = 30, 6


def main(folder: Path) -> None:
    """Make the output if it is not there, then its page, then the pictures."""
    if not (folder / "scores").exists():
        torch.set_num_threads(1)
        fill(folder, NIGHTS, PER_CATEGORY, DEFECTIVE)
    page = make_page(str(folder / "scores"), Query(run_id=RUN))
    # As it would look for a bucket; the folder's own name tells nothing.
    html = folder / "report.html"
    html.write_bytes(page.replace(f"file://{folder}".encode(), b"s3://factory"))
    TARGET.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        for name, scheme, height in (
            ("summary", "light", 830),
            ("gallery", "light", 900),
            ("enlarged", "dark", 800),
        ):
            opened = browser.new_page(
                viewport={"width": 1200, "height": height}, color_scheme=scheme
            )
            opened.goto(html.as_uri())
            _arrange(opened, name)
            # JPEG: photographs as PNG would be a megabyte.
            opened.screenshot(path=TARGET / f"report-{name}.jpg", type="jpeg", quality=82)
            print(TARGET / f"report-{name}.jpg")
        browser.close()


def _arrange(page: Page, name: str) -> None:
    if name == "summary":
        for shown in ("Alert", "Scores have drifted"):
            expect(
                page.locator("#notices"), "what the picture is there to show; see fill"
            ).to_contain_text(shown)
        page.locator("#category-table button", has_text=DRIFTED).click()
        page.mouse.move(0, 0)
    elif name == "gallery":
        page.locator("#images").evaluate("element => element.scrollIntoView()")
    else:
        page.locator("#category-table button", has_text=DRIFTED).click()
        page.locator(".card .open").nth(2).click()
    page.wait_for_timeout(1_500)  # charts and pictures


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
