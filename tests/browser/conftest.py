"""A headless Chromium, a report, and a page that fails its test for any error or request."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.report.page import make_page
from pipeline.report.scope import Query
from pipeline.storage import stat, write_object
from tests import outputs
from tests.browser.chromium import find_chromium
from tests.bucket import jpeg

Open = Callable[..., Page]

HOSTILE = (
    "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202egpj.evil\u2028<b>b</b>"
)
RUN = "20260105T020000Z-abcdef"
NUM_IMAGES = 70
# Chromium drops clicks before a page's first paint, which on a busy machine may follow its load.
PAINTED = "() => performance.getEntriesByName('first-contentful-paint').length > 0"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests; as root it runs without its sandbox. CI insists on one."""
    try:
        executable = find_chromium()
    except FileNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens a file; afterwards, asserts that it was quiet and asked for nothing."""
    problems: list[str] = []
    contexts = []

    def open_file(file: Path, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # other tests may keep the CPUs busy
        page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        context.on(
            "request",
            lambda request: (
                request.url.startswith("data:")
                or request.url.split("#")[0] == file.as_uri()
                or problems.append(f"request: {request.url}")
            ),
        )
        page.goto(file.as_uri(), wait_until="load")
        page.wait_for_function(PAINTED)
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="package")
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
