"""Rows of the score table: read in bounded memory, and which one holds of an object's several."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.identity import base_of
from pipeline.schema import FINAL_ERRORS, PARTITION_COLUMN, SCORE_SCHEMA
from pipeline.storage import arrow_filesystem

from .layout import scan_date_of
from .snapshot import score_dataset

COLUMNS = SCORE_SCHEMA.append(pa.field(PARTITION_COLUMN.name, PARTITION_COLUMN.type))
FILE = "__filename"
"""Arrow's name for the path of the file that a row was read from."""
_EVERYTHING = COLUMNS.append(pa.field(FILE, pa.string()))
HELD_BY = ("image_id", "uri", "model", "category", "error", "scored_at")
"""The columns that decide which row holds."""

# Arrow keeps the footers of all files of one dataset: 100,000 files would take a gigabyte.
FILES_AT_ONCE = 512
FOOTER_THREADS = 16
# From so many columns on, files are fetched from S3 whole: one request each, not one for each
# stretch of columns and two or three for their footer. They are a few megabytes.
COLUMNS_OF_WHOLE = 6
BATCH_ROWS, BATCHES_AHEAD, FILES_AHEAD = 1 << 16, 4, 4


def read_rows(
    folder: str,
    files: Sequence[str],
    columns: Iterable[str],
    condition: pc.Expression | None = None,
    categories: Sequence[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Batches of rows, none of them empty, in the order of the files.

    Args:
        folder: the score folder.
        files: score files that count together (``snapshot.read_scores``).
        columns: of ``COLUMNS``, or ``FILE``.
        condition: only rows for which it is true; row groups that it excludes are not read.
        categories: only row groups that may hold one of these, by their statistics. Arrow looks at
            those of plain columns by itself, not of dictionaries.

    Raises:
        OSError, pa.ArrowException: a file can't be read; the message names it.
    """
    columns = list(columns)
    whole = folder.startswith("s3://") and len(columns) >= COLUMNS_OF_WHOLE
    for start in range(0, len(files), FILES_AT_ONCE):
        some = list(files[start : start + FILES_AT_ONCE])
        dataset = score_dataset(folder, some, COLUMNS, whole=whole)
        if categories is not None and not whole:  # to look at their footers would fetch them twice
            dataset = _pruned(dataset, categories)
        for batch in dataset.to_batches(
            columns=columns,
            filter=condition,
            batch_size=BATCH_ROWS,
            batch_readahead=BATCHES_AHEAD,
            fragment_readahead=FILES_AHEAD,
        ):
            if batch.num_rows:
                yield batch


def read_matching(
    files: Sequence[str],
    columns: Iterable[str],
    condition: pc.Expression,
    key: str,
    values: Iterable[str],
) -> pa.Table:
    """The few rows with one of some values in a column, in the order of the files.

    Args:
        files: as for ``read_rows``.
        columns: of ``COLUMNS``, or ``FILE``.
        condition: of the rows, in terms of ``HELD_BY``, the key and ``columns``.
        key: a column of texts that are no dictionary.
        values: its wanted values.

    Raises:
        OSError, pa.ArrowException: as of ``read_rows``.
    """
    columns, wanted = list(dict.fromkeys(columns)), pa.array(values, pa.string())
    read = list(dict.fromkeys([*HELD_BY, key, *columns]))

    def matching(rows: pa.Table) -> Any:
        return pc.is_in(rows[key], value_set=wanted)

    found = read_chosen(files if len(wanted) else [], read, look_at=[key], choose=matching)
    schema = pa.schema([_EVERYTHING.field(name) for name in read])
    rows = pa.concat_tables([schema.empty_table(), *found]).filter(condition)
    return rows.select(columns).unify_dictionaries()


def read_chosen(
    files: Sequence[str],
    columns: Iterable[str],
    *,
    look_at: Sequence[str],
    choose: Callable[[pa.Table], Any],
) -> Iterator[pa.Table]:
    """Rows that a look at some columns chooses, in the order of the files.

    Those columns are looked through first; the others are decoded only where a row is chosen.

    Args:
        files: as for ``read_rows``.
        columns: of ``COLUMNS``, or ``FILE``.
        look_at: some of ``columns``.
        choose: given rows with those, says which: Arrow booleans [n]. Called from several threads,
            for files that are a few ahead of those whose rows were taken.

    Yields:
        Tables of ``columns``, none of them empty.

    Raises:
        OSError, pa.ArrowException: as of ``read_rows``.
    """
    schema = pa.schema([_EVERYTHING.field(name) for name in dict.fromkeys(columns)])
    looked_at = pa.schema([schema.field(name) for name in look_at])

    def chosen(uri: str) -> list[pa.Table]:
        filesystem, path = arrow_filesystem(uri, whole=True)
        date = scan_date_of(uri)
        with pq.ParquetFile(path, filesystem=filesystem, pre_buffer=True) as file:
            there, found = set(file.schema_arrow.names), []

            def read(group: int, wanted: pa.Schema) -> pa.Table:
                names = [name for name in wanted.names if name in there]
                rows = file.read_row_group(group, columns=names, use_threads=False)
                count = file.metadata.row_group(group).num_rows
                return _of_today(rows, wanted, count, {PARTITION_COLUMN.name: date, FILE: path})

            for group in range(file.num_row_groups):
                positions = np.flatnonzero(choose(read(group, looked_at)))
                if len(positions):
                    found.append(read(group, schema).take(pa.array(positions)))
        return found

    with ThreadPoolExecutor(FILES_AHEAD) as pool:
        waiting: deque[Future[list[pa.Table]]] = deque()
        for number in range(len(files) + FILES_AHEAD):
            if number < len(files):
                waiting.append(pool.submit(chosen, files[number]))
            if number >= FILES_AHEAD:
                yield from waiting.popleft().result()


def _of_today(
    rows: pa.Table, schema: pa.Schema, count: int, given: Mapping[str, str | None]
) -> pa.Table:
    """``count`` rows of a file of any version with the columns of today; ``given`` are the same in
    all of its rows."""
    arrays = [
        pa.repeat(pa.scalar(given[field.name], pa.string()), count)
        if field.name in given
        else rows[field.name].cast(field.type)
        if field.name in rows.column_names
        else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


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


def _pruned(dataset: ds.Dataset, categories: Sequence[str]) -> ds.Dataset:
    """The dataset without row groups that can't hold any of the categories.

    Arrow does this by itself for plain columns, not for dictionaries.
    """

    def chosen(fragment: Any) -> Any:
        metadata = fragment.metadata
        groups = [
            number
            for number in range(metadata.num_row_groups)
            if _may_hold(metadata.row_group(number), categories)
        ]
        return fragment.subset(row_group_ids=groups) if groups else None

    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        fragments = [each for each in pool.map(chosen, dataset.get_fragments()) if each]
    return ds.FileSystemDataset(fragments, dataset.schema, dataset.format, dataset.filesystem)


def _may_hold(group: Any, categories: Sequence[str]) -> bool:
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == "category":
            if not (column.is_stats_set and column.statistics.has_min_max):
                return True
            low, high = column.statistics.min, column.statistics.max
            return any(low <= category <= high for category in categories)
    return True  # a file of an older version, without the column
