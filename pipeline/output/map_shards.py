"""Map shards: how grids and embeddings lie in Parquet, and those of older versions as of today."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.anomaly_map import Q8, Q15, quantize
from pipeline.schema import MAP_SCHEMA

ROWS_PER_GROUP = 128  # what a reader of one map fetches: 330 KB
BYTES_PER_GROUP = 2**20  # before they are compressed

# Before version 0.2 lists of half floats, which Spark and delta-rs don't open at all.
_FORMER = {"logit_grid_q8": ("logit_grid", Q8), "embedding_q15": ("embedding", Q15)}

OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": False,  # values hardly repeat: a dictionary adds 300 bytes a map
    # Patches side by side are alike, so their differences are short: 0.9 times the bytes of half
    # floats, where the integers as they are would take 1.2 times.
    "column_encoding": {f"{name}.list.element": "DELTA_BINARY_PACKED" for name in _FORMER},
}
"""Of ``pyarrow.parquet``."""


def rows_per_group(num_maps: int, num_bytes: int) -> int:
    """So many rows of maps that reading one fetches little, also where maps are large.

    Args:
        num_maps: of a table.
        num_bytes: of all of them together.
    """
    return max(1, min(ROWS_PER_GROUP, BYTES_PER_GROUP * num_maps // num_bytes))


def to_parquet(rows: pa.Table, positions: pa.Array) -> bytes:
    """A map shard of ``schema.MAP_SCHEMA``, in memory.

    It is made a row group at a time: taking the maps of all rows at once needs four times their
    bytes.

    Args:
        rows: in one chunk, with those columns and perhaps others.
        positions: of rows with a map, in the shard's order.
    """
    maps, sink = rows.select(MAP_SCHEMA.names), pa.BufferOutputStream()
    group = rows_per_group(len(positions), maps.nbytes)
    with pq.ParquetWriter(sink, MAP_SCHEMA, **OPTIONS) as writer:
        for first in range(0, len(positions), group):
            some = maps.take(positions[first : first + group])
            writer.write_table(some.cast(MAP_SCHEMA), row_group_size=group)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def columns_of(names: Sequence[str], columns: Sequence[str] = tuple(MAP_SCHEMA.names)) -> list[str]:
    """What to read of a shard of any version, so that ``of_today`` has these columns.

    Args:
        names: of all columns of the shard.
        columns: of ``schema.MAP_SCHEMA``; those that the shard is too old for are left out.
    """
    either = [(name, *_FORMER.get(name, ())[:1]) for name in columns]
    return [name for pair in either for name in pair if name in names]


def is_former(names: Sequence[str]) -> bool:
    """Whether a shard with these columns is of a version whose types not every reader opens."""
    return any(former in names for former, _ in _FORMER.values())


def of_today(maps: pa.Table) -> pa.Table:
    """Rows of a shard of any version as ``schema.MAP_SCHEMA``; what they lack is null."""
    arrays = []
    for field in MAP_SCHEMA:
        former, steps = _FORMER.get(field.name, ("", 1))
        if field.name in maps.column_names:
            arrays.append(maps[field.name].cast(field.type))
        elif former in maps.column_names:
            arrays.append(_fixed_point(maps[former].combine_chunks(), steps))
        else:
            arrays.append(pa.nulls(len(maps), field.type))
    return pa.table(arrays, schema=MAP_SCHEMA)


def _fixed_point(lists: pa.ListArray, steps: int) -> pa.ListArray:
    values = quantize(lists.flatten().to_numpy(zero_copy_only=False), steps)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(values), mask=lists.is_null())
