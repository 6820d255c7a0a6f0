"""The folder of this machine's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.local_cache import cache_folder


def test_it_lies_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("weights") == tmp_path / "adaclip-pipeline" / "weights"


@pytest.mark.parametrize("unset", [None, ""])
def test_or_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unset: str | None) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if unset is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
    assert cache_folder("weights") == tmp_path / ".cache" / "adaclip-pipeline" / "weights"
