"""Rows of the score table: read in bounded memory, and which one holds of an object's several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.allocator import give_back
from pipeline.identity import base_of
from pipeline.schema import FINAL_ERRORS, PARTITION_COLUMN, SCORE_SCHEMA

from .snapshot import score_dataset

COLUMNS = SCORE_SCHEMA.append(pa.field(PARTITION_COLUMN.name, PARTITION_COLUMN.type))
FILE = "__filename"
"""Arrow's name for the path of the file that a row was read from."""
HELD_BY = ("image_id", "uri", "model", "category", "error", "scored_at")
"""The columns that decide which row holds."""

# Arrow keeps the footers of all files of one dataset, and what it decoded of files ahead; what is
# free of their memory lies in pieces between rows that were kept. For a million rows 512 files and
# 4 batches took 80 MB more than 32 and 1, those 7 to 17 MB more than 16, and were no faster, on a
# disk or on S3.
FILES_AT_ONCE = 16
# From so many columns on, files are fetched from S3 whole: one request each, not one for each
# stretch of columns and two or three for their footer. They are a few megabytes.
COLUMNS_OF_WHOLE = 6
BATCH_ROWS, BATCHES_AHEAD = 1 << 16, 1
FILES_AHEAD = 4


def read_rows(
    folder: str,
    files: Sequence[str],
    columns: Iterable[str],
    condition: pc.Expression | None = None,
) -> Iterator[pa.RecordBatch]:
    """Batches of rows, none of them empty, in the order of the files.

    Args:
        folder: the score folder.
        files: score files that count together (``snapshot.read_scores``).
        columns: of ``COLUMNS``, or ``FILE``.
        condition: only rows for which it is true; row groups that it excludes are not read.

    Raises:
        OSError, pa.ArrowException: a file can't be read; the message names it.
    """
    columns = list(columns)
    whole = folder.startswith("s3://") and len(columns) >= COLUMNS_OF_WHOLE
    for start in range(0, len(files), FILES_AT_ONCE):
        some = list(files[start : start + FILES_AT_ONCE])
        for batch in score_dataset(folder, some, COLUMNS, whole=whole).to_batches(
            columns=columns,
            filter=condition,
            batch_size=BATCH_ROWS,
            batch_readahead=BATCHES_AHEAD,
            fragment_readahead=files_ahead(folder),
        ):
            if batch.num_rows:
                yield batch
        give_back()


def files_ahead(uri: str) -> int:
    """How many score files are read at once; on a disk nothing but cores is waited for."""
    return min(FILES_AHEAD, pa.cpu_count()) if uri.startswith("file://") else FILES_AHEAD


def by_category(rows: pa.RecordBatch) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Categories of a batch, each with the positions of its rows; rows without one are left out."""
    column = rows.column("category")
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    for positions in np.split(order, starts)[1:]:
        yield column.dictionary[int(codes[positions[0]])].as_py(), positions


def measured(rows: pa.RecordBatch, column: str) -> NDArray[np.float32]:
    """A batch's scores, say, or anomalous areas [n]; NaN where they are null."""
    values: NDArray[np.float32] = rows.column(column).to_numpy(zero_copy_only=False)
    return values


def plain(rows: pa.RecordBatch | pa.Table) -> pa.Table:
    """Strings instead of dictionaries, which differ between batches."""
    rows = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    for number, name in enumerate(rows.column_names):
        if pa.types.is_dictionary(kind := rows.schema.types[number]):
            rows = rows.set_column(number, name, rows.column(number).cast(kind.value_type))
    return rows


def rows_that_hold(frame: pd.DataFrame) -> pd.DataFrame:
    """Of score rows, one for each object, model and category: the newest, with two exceptions.

    An error that may pass, such as ``fetch_failed``, hides no score and no final error of the same
    version of the object; of a version that was never read it tells that what came before is out of
    date. And an error ends with any newer row of the same object and base model: one under a
    category that it did not have yet, or with other references.

    Args:
        frame: rows with ``HELD_BY``, of whichever columns.

    Returns:
        Those that hold, with their index, the oldest first.
    """
    frame = frame.sort_values("scored_at", kind="stable")
    final = frame["error"].isna() | frame["error"].isin([code.value for code in FINAL_ERRORS])
    frame = frame[final | ~frame["image_id"].isin(frame["image_id"][final])]
    base = frame["model"].map(base_of)
    newest = frame.groupby([frame["uri"], base], observed=True)["scored_at"].transform("max")
    frame = frame[frame["error"].isna() | (frame["scored_at"] == newest)]
    return frame.drop_duplicates(["uri", "model", "category"], keep="last")
