"""What shards hold, kept beside a job's output: the next run reads no headers of those again."""

from __future__ import annotations

import logging
from hashlib import blake2b

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.output.layout import shard_index_of
from pipeline.storage import StorageError, read_object, write_object

from .members import MEMBERS_SCHEMA

FORMAT = "1"  # another one when the same shard would be listed otherwise

_log = logging.getLogger(__name__)


class ShardIndex:
    """One file for each version of a shard."""

    def __init__(self, output: str, *, keep: bool) -> None:
        """Of an output.

        Args:
            output: its folder.
            keep: write what is not there yet. Off: the folder is only read.
        """
        self._output, self._keep = output, keep

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
        key = (FORMAT, uri, etag, category_column)
        digest = blake2b("\0".join(key).encode(), digest_size=16).hexdigest()
        return shard_index_of(self._output, digest)
