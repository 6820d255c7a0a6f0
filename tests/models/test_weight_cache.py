"""Weights by URI: one download a node, whoever asks at once, and a cache that stays bounded."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.models import weight_cache
from pipeline.models.weight_cache import fetch

ACTORS = 6


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is cached when a test starts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "adaclip-pipeline"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths whose bodies were asked for; each takes long enough that the others come meanwhile."""
    get, asked, lock = MemoryFileSystem.get_file, list[str](), threading.Lock()

    def slowly(memory: MemoryFileSystem, path: str, local: str) -> None:
        with lock:
            asked.append(path)
        time.sleep(0.2)
        get(memory, path, local)

    monkeypatch.setattr(MemoryFileSystem, "get_file", slowly)  # each thread has its own instance
    return asked


def put(name: str, data: bytes) -> str:
    fsspec.filesystem("memory").pipe_file(f"/cache/{name}", data)
    return f"memory://cache/{name}"


def test_those_who_ask_at_once_share_one_download(downloads: list[str]) -> None:
    uri = put("shared.pth", b"weights")
    with ThreadPoolExecutor(ACTORS) as pool:
        found = list(pool.map(fetch, [uri] * ACTORS))
    assert downloads == ["/cache/shared.pth"]
    assert {path.read_bytes() for path in found} == {b"weights"}


def test_different_files_are_downloaded_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    uris = [put(f"{i}.pth", b"%d" % i) for i in range(2)]
    entered = threading.Barrier(2, timeout=30)
    get = MemoryFileSystem.get_file

    def both(memory: MemoryFileSystem, path: str, local: str) -> None:
        entered.wait()  # breaks if the second waits for the first
        get(memory, path, local)

    monkeypatch.setattr(MemoryFileSystem, "get_file", both)
    with ThreadPoolExecutor(2) as pool:
        assert [p.read_bytes() for p in pool.map(fetch, uris)] == [b"0", b"1"]


def test_what_a_killed_download_left_is_not_taken_for_weights(cache: Path) -> None:
    uri = put("killed.pth", b"all of it")
    local = fetch(uri)
    local.unlink()
    (local.parent / weight_cache.INCOMPLETE).write_bytes(b"half of it and more than that")
    assert fetch(uri).read_bytes() == b"all of it"
    assert [path.name for path in local.parent.iterdir()] == ["killed.pth"]


def test_a_download_that_fails_leaves_the_next_one_free(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    uri = put("fails.pth", b"weights")

    def cut(memory: MemoryFileSystem, path: str, local: str) -> None:
        Path(local).write_bytes(b"wei")
        raise ConnectionResetError("reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "get_file", cut)
        with pytest.raises(ValueError, match=r"memory://cache/fails\.pth.*reset by peer"):
            fetch(uri)
    assert fetch(uri).read_bytes() == b"weights"


def test_the_cache_drops_what_was_not_used_for_the_longest_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weight_cache, "CACHE_BYTES", 25)
    old = [fetch(put(f"old-{i}.pth", b"0123456789")) for i in range(2)]
    for hours, path in zip((2, 3), old, strict=True):
        os.utime(path.parent, (time.time() - hours * 3600,) * 2)
    new = fetch(put("new.pth", b"0123456789"))
    assert [path.exists() for path in (*old, new)] == [True, False, True]


def test_what_was_used_just_now_stays_however_full_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weight_cache, "CACHE_BYTES", 5)
    first = put("first.pth", b"0123456789")
    os.utime(fetch(first).parent, (0, 0))
    path = fetch(first)  # used again
    fetch(put("second.pth", b"0123456789"))
    assert path.exists()
