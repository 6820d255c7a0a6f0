"""Weight files by URI, downloaded once a node: every process of a node shares one copy on its disk.

Copies are kept under ``$XDG_CACHE_HOME/adaclip-pipeline/weights/<hash of URI and version>/``;
files of the Hugging Face Hub in the Hub's own cache, which works alike.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.implementations.local import LocalFileSystem
from huggingface_hub import hf_hub_download

from pipeline.local_cache import cache_folder

CACHE_BYTES = 20 * 10**9  # some versions of the largest backbone; the oldest unused go first
CACHED = "weights"
KEPT_S = 3600.0  # however full the cache, what was used within the hour stays: it may be being read
INCOMPLETE = ".incomplete"


def fetch(uri: str) -> Path:
    """A local copy of a weight file, downloaded at most once for each version of it.

    Actors that start side by side on a node wait for the first one's download. The copy appears
    under its name only when complete, so a process killed in between leaves nothing behind that
    another would take for weights.

    Raises:
        ValueError: it does not exist or can't be read.
    """
    if "://" not in uri:
        if not Path(uri).is_file():
            raise ValueError(f"weights {uri!r}: no such file")
        return Path(uri)
    try:
        if uri.startswith("hf://"):
            return _hub_file(uri)
        filesystem, path = fsspec.core.url_to_fs(uri)
        if isinstance(filesystem, LocalFileSystem):
            if not Path(path).is_file():
                raise FileNotFoundError("no such file")
            return Path(path)
        version = hashlib.sha256(f"{uri}|{filesystem.ukey(path)}".encode()).hexdigest()[:16]
        folder = cache_folder(CACHED) / version
        local = folder / PurePosixPath(path).name
        with _locked(folder):
            if not local.exists():
                # The lock's holder is the only writer: what is there was left by a killed one.
                filesystem.get_file(path, str(folder / INCOMPLETE))
                (folder / INCOMPLETE).replace(local)
                _evict(keep=folder)
            os.utime(folder)
        return local
    except Exception as error:  # botocore's, for one, are not OSErrors
        raise ValueError(f"weights {uri!r} can't be fetched: {error}") from error


def _hub_file(uri: str) -> Path:
    """``hf://owner/name[@revision]/path`` through the Hub's client and cache."""
    parts = uri.removeprefix("hf://").split("/", 2)
    if len(parts) < 3:
        raise ValueError("write hf://owner/name/file or hf://owner/name@revision/file")
    name, _, revision = parts[1].partition("@")
    return Path(hf_hub_download(f"{parts[0]}/{name}", parts[2], revision=revision or None))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process (or thread) at a time; the kernel lets go of it when a process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        folder.mkdir(parents=True, exist_ok=True)  # it may have been evicted before it was locked
        yield
    finally:
        os.close(descriptor)


def _evict(keep: Path) -> None:
    """Delete the versions that were not used for the longest time until the cache fits."""
    versions = []
    for folder in keep.parent.iterdir():
        with suppress(OSError):  # another process may be deleting it as well
            size = sum(file.stat().st_size for file in folder.iterdir())
            versions.append((folder.stat().st_mtime, size, folder))
    total = sum(size for _, size, _ in versions)
    for used, size, folder in sorted(versions):
        if total <= CACHE_BYTES or time.time() - used < KEPT_S:
            return
        if folder != keep:
            shutil.rmtree(folder, ignore_errors=True)
            total -= size
