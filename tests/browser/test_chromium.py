"""Where the browser is looked for."""

from __future__ import annotations

import pytest

from tests.browser.chromium import REMEDY, find_chromium


def test_a_browser_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", "/nowhere/chrome")
    with pytest.raises(FileNotFoundError, match="CHROMIUM=/nowhere/chrome is no program"):
        find_chromium()
    monkeypatch.delenv("CHROMIUM")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FileNotFoundError, match="apt-get install chromium"):
        find_chromium()
    assert "CHROMIUM=" in REMEDY
