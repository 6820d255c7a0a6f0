"""Score files: how rows lie in Parquet, so that who asks for a few decodes little beside them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_REPEATED = (
    "category",
    "zero_shot_score",
    "reference_score",
    "width",
    "height",
    "frames",
    "map_file",
    "nearest_reference",
    "model",
    "reference_set",
    "error",
    "error_message",
    "last_modified",
    "scored_at",
    "run_id",
)

OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "row_group_size": 8_192,  # 3 % more bytes than one group
    # Of values that hardly repeat a dictionary is a second copy: a quarter more bytes, and time.
    "use_dictionary": list(_REPEATED),
}
"""Of ``pyarrow.parquet``."""


def order_of(rows: pa.Table) -> pa.Array:
    """Positions of rows by category, in their order within each.

    Row groups then hold few categories, and their statistics say which. Readers that ask for one
    pass over the others, whatever they are.
    """
    return pc.sort_indices(rows["category"].cast(pa.string()))


def clustered(rows: pa.Table) -> pa.Table:
    """Rows in the order that ``order_of`` gives them."""
    return rows.take(order_of(rows))


def to_parquet(rows: pa.Table) -> bytes:
    """A score file of ``schema.SCORE_SCHEMA``, in memory."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, **OPTIONS)
    data: bytes = sink.getvalue().to_pybytes()
    return data
