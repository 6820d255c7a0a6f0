"""Map shards, then the score rows that point into them: the order that makes a row a commit."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.allocator import give_back
from pipeline.identity import ModelIdentity
from pipeline.schema import SCORE_SCHEMA
from pipeline.storage import write_object

from . import map_shards
from .layout import MAPS, SCORES, partition_of
from .score_files import order_of, to_parquet

ROWS_PER_FILE = 10_000  # 25 MB of maps at 518 px, 1 MB of scores
BYTES_PER_FILE = 128 * 2**20  # of rows with maps, which are larger of images that were tiled


class ResultWriter:
    """Collects scored rows and writes them, a map shard and a score file at a time.

    A run has one writer, in the driver: rows are small (3 KB), files get a sensible size whatever
    the blocks' size, and no retried task can write a row twice.
    """

    def __init__(
        self,
        *,
        output: str,
        scan_date: str,
        run_id: str,
        identity: ModelIdentity,
        write_maps: bool,
        interval_s: float,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Name the files' place and common columns; nothing is written yet.

        Args:
            output: absolute URI.
            identity: gives each category its model and reference set.
            interval_s: seconds between commits.
            check: called right before every commit; raises if this run may not write any more.
        """
        self._output, self._partition = output, partition_of(scan_date)
        self._run_id, self._identity, self._write_maps = run_id, identity, write_maps
        self._check = check
        self._interval_s, self._last_commit = interval_s, time.monotonic()
        self._pending: list[pa.Table] = []
        self._rows = self._bytes = 0  # of what is pending
        self._num_files = 0
        self.seconds = 0.0
        """Time spent writing."""
        self.map_bytes = 0
        """Bytes of the map shards."""
        self.score_bytes = 0
        """Bytes of the score files."""
        self.num_committed = 0
        """Rows that are on storage."""

    def add(self, rows: pa.Table) -> None:
        """Take scored rows (``schema.scored_schema``); commit if there are enough or it is time.

        Raises:
            StorageError: the output can't be written.
            Exception: what ``check`` raises.
        """
        if rows.num_rows:
            self._pending.append(rows)
            self._rows, self._bytes = self._rows + len(rows), self._bytes + rows.nbytes
        full = self._rows >= ROWS_PER_FILE or self._bytes >= BYTES_PER_FILE
        if full or time.monotonic() - self._last_commit >= self._interval_s:
            self.commit()

    def commit(self) -> None:
        """Write everything taken so far."""
        if self._pending:
            started = time.monotonic()
            rows = pa.concat_tables(self._pending).unify_dictionaries().combine_chunks()
            self._write(rows, order_of(rows))
            self._pending, self._num_files = [], self._num_files + 1
            self._rows = self._bytes = 0
            self.num_committed += len(rows)
            del rows
            give_back()
            self.seconds += time.monotonic() - started
        self._last_commit = time.monotonic()

    def _write(self, rows: pa.Table, order: pa.Array) -> None:
        """Write rows in an order; only what score files hold of them is copied for it."""
        scored = rows.select([name for name in SCORE_SCHEMA.names if name in rows.column_names])
        scored = scored.take(order)
        name = f"{self._partition}/{self._run_id}-{self._num_files:05d}.parquet"
        has_map = pc.is_valid(scored["score"]) if self._write_maps else None
        map_file: pa.Array = pa.nulls(len(rows), pa.string())
        map_row: pa.Array = pa.nulls(len(rows), pa.int32())
        map_bytes = 0
        if has_map is not None and pc.any(has_map).as_py():
            data = map_shards.to_parquet(rows, order.filter(has_map.combine_chunks()))
            map_bytes = self._write_object(f"{MAPS}/{name}", data)
            position = pc.subtract(pc.cumulative_sum(has_map.cast(pa.int32())), 1)
            map_row = pc.if_else(has_map, position, None).cast(pa.int32())
            map_file = pc.if_else(has_map, f"{MAPS}/{name}", None).cast(pa.string())
        added = {
            "map_file": map_file,
            "map_row": map_row,
            "model": self._identity.column(scored["category"]),
            "reference_set": self._identity.reference_sets(scored["category"]),
            "run_id": _constant(self._run_id, len(rows)),
            "scored_at": _constant(datetime.now(UTC), len(rows)),
        }
        columns = [added[f.name] if f.name in added else scored[f.name] for f in SCORE_SCHEMA]
        arrays = [c.cast(f.type) for c, f in zip(columns, SCORE_SCHEMA, strict=True)]
        scores = pa.table(arrays, schema=SCORE_SCHEMA)
        self._check()
        self.score_bytes += self._write_object(f"{SCORES}/{name}", to_parquet(scores))
        self.map_bytes += map_bytes  # only now, because a commit that fails is made again

    def _write_object(self, name: str, data: bytes) -> int:
        write_object(f"{self._output}/{name}", data)
        return len(data)


def _constant(value: str | datetime, length: int) -> pa.Array:
    return pa.repeat(pa.scalar(value), length)
