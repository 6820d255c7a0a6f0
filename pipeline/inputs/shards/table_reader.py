"""Images of Parquet files, read in order: few rows at a time, of a few files that stay open."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import pyarrow as pa

from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, stat

from .columns import damage_told, image_column, mean_size, open_table
from .file import DamagedShardError, ShardFile

BATCH_BYTES, BATCH_ROWS = 1 << 24, 256  # decoded at once
OPEN_FILES = 4  # of a reading process, each at its place in a row group


class TableReader:
    """Reads members of Parquet files; keeps files open at the places that come next.

    Rows of a row group that a process reads one after the other are decoded once; a row before the
    last one read begins the group anew. Held are a page of the image column and ``BATCH_BYTES``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, str], _OpenTable] = OrderedDict()

    def read(
        self, shard: str, etag: str, group: int, rows: Sequence[int], max_bytes: int | None = None
    ) -> Iterator[bytes | StorageError | DamagedShardError]:
        """The bytes of rows of a group, in order, or why there are none.

        Args:
            max_bytes: longer values are not copied, but an error.
        """
        problem: StorageError | None = None
        with self._lock:
            for row in rows:
                try:
                    if problem is None:
                        yield self._table(shard, etag).value(group, row, max_bytes)
                    else:  # each would wait as long for a store that does not answer
                        yield problem
                except DamagedShardError as error:
                    yield error
                except StorageError as error:
                    problem = error
                    yield problem

    def _table(self, shard: str, etag: str) -> _OpenTable:
        key = shard, etag
        table = self._open.pop(key, None) or _OpenTable(shard, etag)
        self._open[key] = table
        while len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)
        return table


class _OpenTable:
    """A file, and a place in one of its row groups."""

    def __init__(self, uri: str, etag: str) -> None:
        self._file = ShardFile(uri, etag, stat(uri).size)
        with damage_told():
            self._table = open_table(self._file)
            self._column = image_column(self._table.schema_arrow).leaf
        self._group, self._batches = -1, iter(())
        self._first, self._values = 0, pa.array([], pa.binary())
        self._broken: DamagedShardError | None = None

    def value(self, group: int, row: int, max_bytes: int | None) -> bytes:
        """A row's bytes.

        Raises:
            DamagedShardError: its row group can't be decoded; with the code ``empty`` if it holds
                none, or ``too_large``.
            StorageError: the file can't be read.
        """
        if group != self._group or row < self._first:
            self._begin(group)
        while row >= self._first + len(self._values):
            self._next()
        value = self._values[row - self._first]
        if not value.is_valid:
            raise DamagedShardError("the row holds no bytes", ErrorCode.EMPTY)
        size = len(value.as_buffer())
        if max_bytes is not None and size > max_bytes:
            message = f"{size:,} bytes; the limit is {max_bytes:,} (--max-megapixels)"
            raise DamagedShardError(message, ErrorCode.TOO_LARGE)
        return bytes(value.as_buffer())

    def _begin(self, group: int) -> None:
        self._group, self._first, self._broken = group, 0, None
        self._values = self._values[:0]
        with damage_told():
            about = self._table.metadata.row_group(group)
            each = mean_size(about, self._column)
            self._batches = self._table.iter_batches(
                batch_size=max(1, min(BATCH_ROWS, BATCH_BYTES // each)),
                row_groups=[group],
                columns=[self._column],
                use_threads=False,
            )

    def _next(self) -> None:
        if self._broken is not None:
            raise self._broken
        self._first += len(self._values)
        self._values = self._values[:0]
        try:
            with damage_told():
                batch = next(self._batches, None)
                if batch is None:
                    raise DamagedShardError("its row group has fewer rows than the footer says")
                column = batch.column(0)
                nested = pa.types.is_struct(column.type)
                self._values = column.field("bytes") if nested else column
        except DamagedShardError as error:
            self._broken = error
            raise
        except BaseException:  # another try begins the group anew
            self._group = -1
            raise
