"""Rows of the score table as data frames: the newest of each image, the highest of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.calibration import Measure
from pipeline.identity import ModelIdentity, base_of, references_of
from pipeline.output.chosen import Bound
from pipeline.output.rows import COLUMNS, HELD_BY, plain, rows_that_hold
from pipeline.output.tally import BY_SCORE

from .best import ALL, Best
from .selection import Selection

_ROW = ["image_id", "scored_at"]  # what tells two rows apart
_HELD = (*_ROW, "uri", "category")  # of a row that may be one of the highest
# Of an image's rows only the newest counts, so more than the wanted n are looked at.
SPARE = 2
OTHERS_BYTES = 64 * 2**20  # 600,000 rows of a category, before files are read a second time
# What rows may be ranked by that no file holds.
SIMILARITY = pa.field("similarity", pa.float32())

RowsOf = Callable[[list[str], Best], Iterable[pa.Table]]


def read_frame(
    folder: str,
    selection: Selection,
    columns: Sequence[str],
    *,
    latest: bool = True,
    minimum: float | None = None,
    by: Measure = "score",
) -> pd.DataFrame:
    """Rows with ``columns`` and those that they are chosen and ordered by, most anomalous first.

    With a minimum, wide columns are only read where a row reaches it. Such a row may have a newer
    one that doesn't, so the identifying columns of others are looked at, too. Memory is that of the
    result, not of the table.
    """
    needed = list(dict.fromkeys([*columns, *BY_SCORE, by, *(HELD_BY if latest else ())]))

    def read(files: list[str]) -> pd.DataFrame:
        if minimum is None:
            frame = _frame(_table(selection.rows(folder, files, needed), needed))
            return rows_that_hold(frame) if latest else frame
        reaching = _Reaching(selection, by, minimum)
        return _frame(reaching.newest(files, needed) if latest else reaching.rows(files, needed))

    return _most_anomalous_first(selection.read(folder, read))


class _Reaching:
    """Selected rows that reach a minimum."""

    def __init__(self, selection: Selection, by: Measure, minimum: float) -> None:
        self._selection, self._by = selection, by
        self._least = np.float32(minimum)  # as the column is: 0.9 means the same as in pandas
        self._keeps_others = False
        """Until there are too many; never set again, as threads may count past each other."""
        self._others: list[pa.Table] = []
        self._others_bytes = 0

    def rows(self, files: list[str], columns: Sequence[str], *also: str) -> pa.Table:
        """All of them. ``also`` are columns to look at beside."""
        found = self._selection.chosen(
            files,
            columns,
            look_at=list(dict.fromkeys([self._by, *also])),
            choose=self._choose,
            bounds=() if also else [Bound(self._by, lambda _, highest: highest >= self._least)],
        )
        return _table(found, columns)

    def newest(self, files: list[str], columns: Sequence[str]) -> pa.Table:
        """Those that hold; ``HELD_BY`` is among the columns.

        Of a category, the others are kept on the way, while they are few. Else files are read
        again, for others of the images that were found.
        """
        self._keeps_others = self._selection.category is not None
        found = self.rows(files, columns, *(HELD_BY if self._keeps_others else ()))
        if not len(found):
            return found
        others = self._kept(found) if self._keeps_others else self._again(files, found)
        keys = pa.concat_tables([found.select(HELD_BY), others.select(HELD_BY)])
        positions = rows_that_hold(keys.unify_dictionaries().to_pandas()).index
        return found.take(pa.array(positions[positions < len(found)]))

    def _choose(self, rows: pa.Table) -> Any:
        """Called by several threads."""
        high = pc.fill_null(pc.greater_equal(rows[self._by], pa.scalar(self._least)), False)
        if self._keeps_others:
            mine = pc.and_not(self._selection.of_category(rows), high)
            others = rows.select(HELD_BY).filter(mine)
            self._others.append(others)
            self._others_bytes += others.nbytes
            if self._others_bytes > OTHERS_BYTES:
                self._keeps_others = False
        elif self._others:
            self._others.clear()
        return high

    def _kept(self, found: pa.Table) -> pa.Table:
        uris = found["uri"].unique()
        others = (rows.filter(pc.is_in(rows["uri"], uris)) for rows in self._others)
        return self._selection.of_model_and_prefix(_table(others, HELD_BY))

    def _again(self, files: list[str], found: pa.Table) -> pa.Table:
        low = (pc.field(self._by) < pa.scalar(self._least)) | pc.field(self._by).is_null()
        columns = [*HELD_BY, self._by]
        uris = found["uri"].to_pylist()
        return self._selection.matching(files, columns, "uri", uris).filter(low)


def read_top(
    folder: str,
    selection: Selection,
    columns: Sequence[str],
    *,
    n: int,
    by: Measure,
    per_category: bool,
) -> pd.DataFrame:
    """The n newest rows with the highest values, of each category or of all, highest first."""
    order = BY_SCORE if by == "score" else (by,)

    def rows_of(files: list[str], best: Best) -> Iterable[pa.Table]:
        read, look_at = [*_HELD, *order], ["category", by]
        return selection.chosen(files, read, look_at=look_at, choose=best.may_hold)

    return read_best(
        folder, selection, columns, rows_of, n=n, order=order, per_category=per_category
    )


def read_best(
    folder: str,
    selection: Selection,
    columns: Sequence[str],
    rows_of: RowsOf,
    *,
    n: int,
    order: Sequence[str],
    per_category: bool,
) -> pd.DataFrame:
    """The n newest rows that rank highest, of each category or of all, highest first.

    The table passes by in parts; a few times n rows of each category are held.

    Args:
        folder: the score folder.
        selection: the rows.
        columns: of ``COLUMNS``, that the result has beside those of ``order``.
        rows_of: gives the rows of files that may be among the best: image_id, scored_at, uri,
            category and those of ``order``.
        n: how many.
        order: what ranks the rows; where the first is equal, the second, then the smaller image_id.
        per_category: n of each category, else of all.
    """
    schema = _table([], [*_HELD, *order]).schema
    wanted = [name for name in columns if name not in (*HELD_BY, *order)]

    def read(files: list[str]) -> pd.DataFrame:
        size, short = SPARE * n, True
        while short:  # more than once where many rows are not the newest of their image
            best = Best(size, schema, order, per_category=per_category)
            for part in rows_of(files, best):
                best.add(part)
            rows, full = best.result()
            others = selection.matching(files, [*HELD_BY, *wanted], "uri", rows["uri"])
            newest = rows_that_hold(others.to_pandas()).drop_duplicates(_ROW)
            rows = rows[[*_ROW, *order]].merge(newest, on=_ROW)
            groups = rows.groupby(rows["category"] if per_category else np.full(len(rows), ALL))
            short = any(groups.size().get(name, 0) < n for name in full)
            size *= SPARE
        return groups.head(n)

    return selection.read(folder, read)


def values_of(folder: str, column: str) -> list[str]:
    """What the rows of a score folder hold in a column of texts, sorted. Reads that column only.

    Raises:
        FileNotFoundError: the folder has no score table.
        StorageError: it can't be listed.
    """

    def read(files: list[str]) -> set[str]:
        found: set[str] = set()
        for rows in Selection().rows(folder, files, [column]):
            found.update(rows[column].unique().drop_null().to_pylist())
        return found

    return sorted(Selection().read(folder, read))


def newest_identity(folder: str) -> ModelIdentity:
    """The model of the newest row, and of each category the references of its newest row."""

    def read(files: list[str]) -> dict[tuple[str, str | None], datetime]:
        found: dict[tuple[str, str | None], datetime] = {}
        for rows in Selection().rows(folder, files, ["model", "category", "scored_at"]):
            kinds = plain(rows).group_by(["model", "category"])
            for each in kinds.aggregate([("scored_at", "max")]).to_pylist():
                kind, newest = (each["model"], each["category"]), each["scored_at_max"]
                found[kind] = max(newest, found.get(kind, newest))
        return found

    found = Selection().read(folder, read)
    ordered = sorted(found, key=lambda kind: found[kind])
    base = base_of(ordered[-1][0]) if ordered else ""
    newest = {
        category: references_of(model) for model, category in ordered if base_of(model) == base
    }
    return ModelIdentity(base, {name: one for name, one in newest.items() if name and one})


def _table(parts: Iterable[pa.Table], columns: Iterable[str]) -> pa.Table:
    known = COLUMNS.append(SIMILARITY)
    schema = pa.schema([known.field(name) for name in columns])
    return pa.concat_tables([schema.empty_table(), *parts]).unify_dictionaries()


def _most_anomalous_first(frame: pd.DataFrame) -> pd.DataFrame:
    """By falling score, then logit; rows without come last."""
    falling = [-frame[name].to_numpy(np.float32) for name in reversed(BY_SCORE)]
    return frame.iloc[np.lexsort(falling)].reset_index(drop=True)


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame
