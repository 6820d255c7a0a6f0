"""What shards hold, kept beside a job's output: the next run reads no headers of those again."""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.output.layout import shard_index_of
from pipeline.storage import StorageError, read_object, write_object

from .members import MEMBERS_SCHEMA

FORMAT = "2"  # another one when the same shard would be listed otherwise
SINGLES_FORMAT = "1"  # the same for objects that hold one picture, of which there may be millions

_ID = pa.binary(16)
_log = logging.getLogger(__name__)


class ShardIndex:
    """One file for each version of a shard, and one for all that might have held frames."""

    def __init__(self, output: str, *, keep: bool) -> None:
        """Of an output.

        Args:
            output: its folder.
            keep: write what is not there yet. Off: the folder is only read.
        """
        self._output, self._keep = output, keep
        self.singles = Singles(output, keep=keep)

    def find(self, uri: str, etag: str, category_column: str) -> pa.Table | None:
        """The members of a version of a shard (``MEMBERS_SCHEMA``); None if they are not known."""
        try:
            data, _ = read_object(self._file(uri, etag, category_column))
            table = pq.read_table(pa.BufferReader(data))
        except (StorageError, pa.ArrowException, OSError):  # then its headers are read
            return None
        return table if table.schema.equals(MEMBERS_SCHEMA) else None

    def add(self, uri: str, etag: str, category_column: str, members: pa.Table) -> None:
        """Keep the members of a version of a shard, if this index is kept."""
        if not self._keep:
            return
        sink = pa.BufferOutputStream()
        pq.write_table(members, sink, compression="zstd")
        try:
            write_object(self._file(uri, etag, category_column), sink.getvalue().to_pybytes())
        except StorageError as error:  # the next run reads the headers again, nothing else is lost
            _log.warning(f"what {uri} holds can't be kept: {error}")

    def _file(self, uri: str, etag: str, category_column: str) -> str:
        if not uri.lower().endswith(".parquet"):
            category_column = ""  # of no meaning there
        digest = _digest(FORMAT, uri, etag, category_column)
        return shard_index_of(self._output, digest.hex())


class Singles:
    """Objects that were looked at and hold one picture, as 16 bytes each: most DICOM files do."""

    def __init__(self, output: str, *, keep: bool) -> None:
        """Of an output, as of ``ShardIndex``; nothing is read before something is asked."""
        digest = _digest(SINGLES_FORMAT, "one picture")
        self._uri, self._keep = shard_index_of(output, digest.hex()), keep
        self._known: NDArray[np.bytes_] | None = None
        self._new: list[NDArray[np.bytes_]] = []

    def known(self, objects: pa.Table) -> NDArray[np.bool_]:
        """Which of listed objects [n] an earlier run has looked at."""
        if self._known is None:
            self._known = self._read()
        if not len(self._known):
            return np.zeros(len(objects), bool)
        ids = _ids(objects)
        at = np.minimum(np.searchsorted(self._known, ids), len(self._known) - 1)
        found: NDArray[np.bool_] = self._known[at] == ids
        return found

    def add(self, objects: pa.Table) -> None:
        """Remember listed objects."""
        self._new.append(_ids(objects))

    def save(self) -> None:
        """Write what was added, if the index is kept."""
        if not self._keep or not sum(map(len, self._new)):
            return
        known = [] if self._known is None else [self._known]
        ids = np.unique(np.concatenate([*known, *self._new]))
        column = pa.Array.from_buffers(_ID, len(ids), [None, pa.py_buffer(ids.tobytes())])
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"id": column}), sink)
        try:
            write_object(self._uri, sink.getvalue().to_pybytes())
        except StorageError as error:
            _log.warning(f"which inputs hold one picture can't be kept: {error}")

    def _read(self) -> NDArray[np.bytes_]:
        try:
            data, _ = read_object(self._uri)
            column: Any = pq.read_table(pa.BufferReader(data), schema=pa.schema([("id", _ID)]))
            return np.array(column["id"].to_pylist(), "S16")
        except (StorageError, pa.ArrowException, OSError):
            return np.empty(0, "S16")


def _ids(objects: pa.Table) -> NDArray[np.bytes_]:
    """What tells versions of listed objects [n] apart."""
    pairs = zip(objects["uri"].to_pylist(), objects["etag"].to_pylist(), strict=True)
    return np.array([_digest(uri, etag) for uri, etag in pairs], "S16")


def _digest(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
