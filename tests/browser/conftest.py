"""A headless Chromium, and a page that fails its test for any error or request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.chromium import find_chromium

Open = Callable[..., Page]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests; as root it runs without its sandbox."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"]
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
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert problems == []
