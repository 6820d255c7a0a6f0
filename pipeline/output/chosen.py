"""Few rows of a large table: what they are chosen by is decoded, and of the others nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.allocator import give_back
from pipeline.schema import PARTITION_COLUMN
from pipeline.storage import arrow_filesystem

from .layout import scan_date_of
from .rows import COLUMNS, FILE, FILES_AT_ONCE, HELD_BY, files_ahead

_EVERYTHING = COLUMNS.append(pa.field(FILE, pa.string()))


class Bound(NamedTuple):
    """What the statistics of row groups are held against."""

    column: str
    overlaps: Callable[[Any, Any], bool]
    """Whether values between a lowest and a highest, both inclusive, may be wanted."""

    def excludes(self, group: pq.RowGroupMetaData, names: Sequence[str]) -> bool:
        """Whether a row group holds nothing that is wanted; where no statistics tell, it may.

        Args:
            names: of its columns.
        """
        if self.column not in names:  # a file of an older version
            return False
        column = group.column(names.index(self.column))
        known = column.is_stats_set and column.statistics.has_min_max
        return known and not self.overlaps(column.statistics.min, column.statistics.max)


def read_matching(
    files: Sequence[str],
    columns: Iterable[str],
    condition: pc.Expression,
    key: str,
    values: Iterable[str],
    bounds: Sequence[Bound] = (),
) -> pa.Table:
    """The few rows with one of some values in a column, in the order of the files.

    Args:
        files: as for ``read_rows``.
        columns: of ``COLUMNS``, or ``FILE``.
        condition: of the rows, in terms of ``HELD_BY``, the key and ``columns``.
        key: a column of texts that are no dictionary.
        values: its wanted values.
        bounds: as for ``read_chosen``.

    Raises:
        OSError, pa.ArrowException: as of ``read_rows``.
    """
    columns, wanted = list(dict.fromkeys(columns)), pa.array(values, pa.string())
    read = list(dict.fromkeys([*HELD_BY, key, *columns]))

    def matching(rows: pa.Table) -> Any:
        return pc.is_in(rows[key], value_set=wanted)

    some = files if len(wanted) else []
    found = read_chosen(some, read, look_at=[key], choose=matching, bounds=bounds)
    schema = pa.schema([_EVERYTHING.field(name) for name in read])
    rows = pa.concat_tables([schema.empty_table(), *found]).filter(condition)
    return rows.select(columns).unify_dictionaries()


def read_chosen(
    files: Sequence[str],
    columns: Iterable[str],
    *,
    look_at: Sequence[str],
    choose: Callable[[pa.Table], Any],
    bounds: Sequence[Bound] = (),
) -> Iterator[pa.Table]:
    """Rows that a look at some columns chooses, in the order of the files.

    Those columns are looked through first; the others are decoded only where a row is chosen.

    Args:
        files: as for ``read_rows``.
        columns: of ``COLUMNS``, or ``FILE``.
        look_at: some of ``columns``.
        choose: given rows with those, says which: Arrow booleans [n]. Called from several threads,
            for files that are a few ahead of those whose rows were taken.
        bounds: of what is chosen; row groups beyond one of them are not read.

    Yields:
        Tables of ``columns``, none of them empty.

    Raises:
        OSError, pa.ArrowException: as of ``read_rows``.
    """
    look = _Look(list(dict.fromkeys(columns)), look_at, choose, bounds)
    ahead = files_ahead(files[0]) if files else 1
    with ThreadPoolExecutor(ahead) as pool:
        waiting: deque[Future[list[pa.Table]]] = deque()
        for number in range(len(files) + ahead):
            if number < len(files):
                waiting.append(pool.submit(look.rows_of, files[number]))
            if number >= ahead:
                yield from waiting.popleft().result()
            if number % FILES_AT_ONCE == 0:
                give_back()


@dataclass(frozen=True)
class _Look:
    """What ``read_chosen`` does with each file; its fields are that function's arguments."""

    columns: Sequence[str]
    look_at: Sequence[str]
    choose: Callable[[pa.Table], Any]
    bounds: Sequence[Bound]

    def rows_of(self, uri: str) -> list[pa.Table]:
        """The chosen rows, a table for each row group that has one."""
        filesystem, path = arrow_filesystem(uri, whole=True)
        given, found = {PARTITION_COLUMN.name: scan_date_of(uri), FILE: path}, []
        others = [name for name in self.columns if name not in self.look_at]
        with pq.ParquetFile(path, filesystem=filesystem, pre_buffer=True) as file:
            there, metadata = file.schema_arrow.names, file.metadata  # each call makes it anew

            def read(group: int, names: Sequence[str], only: pa.Array | None = None) -> pa.Table:
                some = [name for name in names if name in there]
                rows = file.read_row_group(group, columns=some, use_threads=False)
                count = metadata.row_group(group).num_rows
                if only is not None:
                    rows, count = rows.take(only), len(only)
                return _of_today(rows, names, given, count)

            for group in range(metadata.num_row_groups):
                if any(bound.excludes(metadata.row_group(group), there) for bound in self.bounds):
                    continue
                rows = read(group, self.look_at)
                positions = pa.array(np.flatnonzero(self.choose(rows)))
                if len(positions):
                    parts = rows.take(positions), read(group, others, positions)
                    columns = {name: part[name] for part in parts for name in part.column_names}
                    found.append(pa.table({name: columns[name] for name in self.columns}))
        return found


def _of_today(
    rows: pa.Table, names: Sequence[str], given: Mapping[str, str | None], count: int
) -> pa.Table:
    """``count`` rows of a file of any version with columns of today.

    Args:
        given: by column, what is the same in all rows and stands in no file.
    """
    schema = pa.schema([_EVERYTHING.field(name) for name in names])
    arrays = [
        pa.repeat(pa.scalar(given[field.name], pa.string()), count)
        if field.name in given
        else rows[field.name].cast(field.type)
        if field.name in rows.column_names
        else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)
