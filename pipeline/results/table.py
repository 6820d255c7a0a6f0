"""Rows of the score table as data frames: the newest of each image, the highest of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.calibration import Measure
from pipeline.identity import ModelIdentity, base_of, references_of
from pipeline.output.rows import (
    COLUMNS,
    FILE,
    HELD_BY,
    by_category,
    measured,
    plain,
    rows_that_hold,
)
from pipeline.output.tally import BY_SCORE, Highest
from pipeline.storage import arrow_filesystem

from .selection import Selection

_ROW = ["image_id", "scored_at"]  # what tells two rows apart
ALL = ""  # in the place of a category
_HELD = (*_ROW, "uri", "category", FILE)  # of a row that may be one of the highest
# Of an image's rows only the newest counts, so more than the wanted n are looked at.
SPARE = 2
# What rows may be ranked by that no file holds.
SIMILARITY = pa.field("similarity", pa.float32())

Batches = Callable[[list[str]], Iterator[pa.RecordBatch]]


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

    With a minimum, wide columns are only read where a row group reaches it. A row that does may
    have a newer one that doesn't, so the identifying columns of the images found are then looked
    up in the whole selection. Memory is that of the result, not of the table.
    """
    needed = list(dict.fromkeys([*columns, *BY_SCORE, by, *(HELD_BY if latest else ())]))

    def read(files: list[str]) -> pd.DataFrame:
        if minimum is None:
            frame = _frame(_table(selection.batches(folder, files, needed), needed))
            return rows_that_hold(frame) if latest else frame
        least = _float32(minimum)
        high = pc.field(by) >= least
        low = (pc.field(by) < least) | pc.field(by).is_null()
        found = _table(selection.batches(folder, files, needed, high), needed)
        if latest and len(found):
            uris = found["uri"].to_pylist()
            others = selection.matching(files, [*HELD_BY, by], "uri", uris).filter(low)
            keys = pa.concat_tables([found.select(HELD_BY), others.select(HELD_BY)])
            keys = keys.unify_dictionaries()
            positions = rows_that_hold(keys.to_pandas()).index
            found = found.take(pa.array(positions[positions < len(found)]))
        return _frame(found)

    return _most_anomalous_first(selection.read(folder, read))


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
    scored = pc.field(by).is_valid() & pc.field("category").is_valid()

    def batches(files: list[str]) -> Iterator[pa.RecordBatch]:
        return selection.batches(folder, files, [*_HELD, *order], scored)

    return read_best(
        folder, selection, columns, batches, n=n, order=order, per_category=per_category
    )


def read_best(
    folder: str,
    selection: Selection,
    columns: Sequence[str],
    batches: Batches,
    *,
    n: int,
    order: Sequence[str],
    per_category: bool,
) -> pd.DataFrame:
    """The n newest rows that rank highest, of each category or of all, highest first.

    The table passes by in batches; a few times n rows of each category are held.

    Args:
        folder: the score folder.
        selection: the rows.
        columns: of ``COLUMNS``, that the result has beside those of ``order``.
        batches: gives the rows of files: image_id, scored_at, uri, category, ``FILE`` and those of
            ``order``.
        n: how many.
        order: what ranks the rows; where the first is equal, the second, then the smaller image_id.
        per_category: n of each category, else of all.
    """

    def read(files: list[str]) -> pd.DataFrame:
        size, short = SPARE * n, True
        while short:  # more than once where many rows are not the newest of their image
            rows, full = _highest(batches(files), size, order, per_category)
            others = selection.matching(files, HELD_BY, "uri", rows["uri"])
            newest = rows_that_hold(others.to_pandas())[_ROW].drop_duplicates()
            rows = rows.merge(newest, on=_ROW)
            groups = rows.groupby(rows["category"] if per_category else np.full(len(rows), ALL))
            short = any(groups.size().get(name, 0) < n for name in full)
            size *= SPARE
        chosen = groups.head(n)
        wanted = list(dict.fromkeys([*(name for name in columns if name not in order), *_ROW]))
        there = set(chosen[FILE])
        files = [uri for uri in files if arrow_filesystem(uri)[1] in there]
        wide = selection.matching(files, wanted, "image_id", chosen["image_id"]).to_pandas()
        return chosen[[*_ROW, *order]].merge(wide.drop_duplicates(_ROW), on=_ROW)

    return selection.read(folder, read)


def values_of(folder: str, column: str) -> list[str]:
    """What the rows of a score folder hold in a column of texts, sorted. Reads that column only.

    Raises:
        FileNotFoundError: the folder has no score table.
        StorageError: it can't be listed.
    """

    def read(files: list[str]) -> set[str]:
        found: set[str] = set()
        for batch in Selection().batches(folder, files, [column]):
            found.update(batch.column(column).unique().drop_null().to_pylist())
        return found

    return sorted(Selection().read(folder, read))


def newest_identity(folder: str) -> ModelIdentity:
    """The model of the newest row, and of each category the references of its newest row."""

    def read(files: list[str]) -> dict[tuple[str, str | None], datetime]:
        found: dict[tuple[str, str | None], datetime] = {}
        for batch in Selection().batches(folder, files, ["model", "category", "scored_at"]):
            kinds = plain(pa.Table.from_batches([batch])).group_by(["model", "category"])
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


def _highest(
    batches: Iterable[pa.RecordBatch], size: int, order: Sequence[str], per_category: bool
) -> tuple[pd.DataFrame, list[str]]:
    """The highest rows of each category or of all, the highest first; and which have ``size``."""
    found: dict[str, Highest] = defaultdict(lambda: Highest(size, _HELD, order))
    for batch in batches:
        batch = batch.filter(_may_rank(batch, found, order[0], per_category))
        rows = plain(batch)  # once, not for each category
        for name, positions in by_category(batch) if per_category else [(ALL, None)]:
            found[name].add(rows, positions)
    none = plain(_table([], [*_HELD, *order]))
    held = [each.rows.select(none.column_names) for each in found.values() if each.rows]
    ascending = [*(False for _ in order), True]
    frame = pa.concat_tables([none, *held]).to_pandas()
    frame = frame.sort_values([*order, "image_id"], ascending=ascending)
    return frame, [name for name, each in found.items() if each.full]


def _may_rank(
    batch: pa.RecordBatch, found: Mapping[str, Highest], column: str, per_category: bool
) -> pa.Array:
    """Which rows are as high as the lowest of the highest so far: soon hardly any."""
    values = measured(batch, column)
    if not per_category:
        return pa.array(values >= (found[ALL].lowest if ALL in found else -np.inf))
    category = batch.column("category")
    names = category.dictionary.to_pylist()
    lowest = np.array([found[name].lowest if name in found else -np.inf for name in names])
    return pa.array(values >= lowest[category.indices.to_numpy()])


def _table(batches: Iterable[pa.RecordBatch], columns: Iterable[str] = HELD_BY) -> pa.Table:
    known = COLUMNS.append(SIMILARITY).append(pa.field(FILE, pa.string()))
    schema = pa.schema([known.field(name) for name in columns])
    return pa.Table.from_batches(batches, schema=schema).unify_dictionaries()


def _most_anomalous_first(frame: pd.DataFrame) -> pd.DataFrame:
    """By falling score, then logit; rows without come last."""
    falling = [-frame[name].to_numpy(np.float32) for name in reversed(BY_SCORE)]
    return frame.iloc[np.lexsort(falling)].reset_index(drop=True)


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _float32(value: float) -> pa.Scalar:
    """As the column is, so that 0.9 means the same as in pandas."""
    return pa.scalar(np.float32(value))
