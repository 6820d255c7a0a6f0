"""What Arrow reads and writes through: fsspec, with errors in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyarrow import BufferReader, PythonFile
from pyarrow.fs import FSSpecHandler, PyFileSystem

from .access import (
    ANONYMOUS,
    REQUESTER_PAYS,
    absolute,
    filesystem_of,
    is_named,
    split_s3,
    translated,
)
from .amazon import read_small_s3

WHOLE_BYTES = 32 * 2**20  # several times a score file of 50,000 rows


def arrow_filesystem(uri: str, *, whole: bool = False) -> tuple[PyFileSystem, str]:
    """A filesystem and path for ``pyarrow.dataset`` and ``ray.data.read_parquet``.

    Args:
        uri: of a file or folder.
        whole: fetch a file of up to ``WHOLE_BYTES`` from S3 when it is opened, in one request. By
            itself Arrow asks for its size, its end, and each stretch of columns.
    """
    uri = absolute(uri)
    filesystem, path = filesystem_of(uri, **_options(uri))
    whole = whole and uri.startswith("s3://")
    return PyFileSystem((_WholeFiles if whole else _Handler)(filesystem)), path


def _options(uri: str) -> dict[str, Any]:
    if not uri.startswith("s3://"):
        return {}
    bucket = split_s3(uri)[0]
    # Arrow asks for exactly the bytes it needs; s3fs by itself would read megabytes beyond them.
    exact = {"default_cache_type": "none", "default_fill_cache": False}
    return {
        **exact,
        "anon": is_named(ANONYMOUS, bucket),
        "requester_pays": is_named(REQUESTER_PAYS, bucket),
    }


class _Handler(FSSpecHandler):  # type: ignore[misc]  # pyarrow says nothing of types
    """fsspec for Arrow, whose readers are told of OSErrors and of ``StorageError`` only."""

    def open_input_file(self, path: str) -> PythonFile:
        with _told(path):
            if not self.fs.isfile(path):
                raise FileNotFoundError(path)
            return PythonFile(_File(self.fs.open(path, mode="rb"), path), mode="r")

    def open_input_stream(self, path: str) -> PythonFile:
        return self.open_input_file(path)


class _WholeFiles(_Handler):
    def open_input_file(self, path: str) -> Any:
        with translated(f"s3://{path}"):
            data, _ = read_small_s3(f"s3://{path}", WHOLE_BYTES)
        return super().open_input_file(path) if data is None else BufferReader(data)


class _File:
    """An open file whose reads fail in words."""

    def __init__(self, file: Any, path: str) -> None:
        self._file, self._path = file, path

    def read(self, length: int = -1) -> bytes:
        with _told(self._path):
            data: bytes = self._file.read(length)
            return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        with translated(path):
            raise error
