"""Which rows come to a table and which go, from the rows that it has and those of new score files.

The rule which of an image's rows counts (``rows_that_hold``) is one for all rows that an image ever
had. A table has only those that counted so far. For nearly all images that is as good: the rule on
these and the new ones gives what it would give on all. Where it might not, which takes an error
(``_in_doubt``), the image's history is read from the output again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.identity import base_of
from pipeline.output.rows import COLUMNS, HELD_BY, plain, read_rows, rows_that_hold
from pipeline.schema import FINAL_ERRORS

from .table import KEYS, SCHEMA

_NUMBERED = ("image_id", "uri")  # as strings in pandas, ten million would be some gigabytes
_KEYS = pa.schema([COLUMNS.field(name) for name in HELD_BY])
_FINAL = tuple(code.value for code in FINAL_ERRORS)


@dataclass(frozen=True)
class Merge:
    """What becomes of a table; rows stay on storage until they are written."""

    folder: str
    files: list[str]
    """URIs of the new score files."""
    taken: NDArray[np.bool_]
    """Which of their rows come to the table, in the order of ``read_rows``."""
    replayed: pa.Table
    """Rows that come beside those, of images whose history was read again."""
    superseded: pa.Table
    """Rows of the table that go: ``KEYS``."""

    @property
    def added(self) -> int:
        """How many rows come."""
        return int(self.taken.sum()) + len(self.replayed)

    def rows(self) -> Iterator[pa.Table]:
        """The rows that come, in pieces, with the columns of the table."""
        start = 0
        for batch in read_rows(self.folder, self.files, COLUMNS.names):
            taken = self.taken[start : start + len(batch)]
            start += len(batch)
            if taken.any():
                yield as_published(batch).filter(pa.array(taken))
        if len(self.replayed):
            yield self.replayed


def merge(
    folder: str,
    files: list[str],
    new: list[str],
    rows_of: Callable[[pa.Array], list[pa.Table]],
) -> Merge:
    """What publishing some score files does to a table. Nothing is changed yet.

    Args:
        folder: the score folder.
        files: URIs of all score files that count together.
        new: those of them that are not published.
        rows_of: gives those that the table has (``KEYS``) of images [n], sorted and distinct.

    Raises:
        OSError, pa.ArrowException: a score file can't be read.
        Exception: what ``rows_of`` raises.
    """
    keys = _keys(read_rows(folder, new, HELD_BY))
    uris = pc.unique(keys["uri"])
    old = pa.concat_tables([KEYS.empty_table(), *rows_of(uris.take(pc.sort_indices(uris)))])
    frame = _frame(old, keys)
    del keys, uris  # most of the memory
    holds = _mask(frame)
    doubt = np.isin(frame["uri"], _in_doubt(frame, holds, len(old)))
    stays, taken = holds[: len(old)], holds[len(old) :] & ~doubt[len(old) :]
    superseded, replayed = old.filter(pa.array(~stays & ~doubt[: len(old)])), SCHEMA.empty_table()
    if doubt.any():
        doubted = old.filter(pa.array(doubt[: len(old)]))
        replayed, gone = _replayed(folder, files, doubted)
        superseded = pa.concat_tables([superseded, gone])
    return Merge(folder, new, taken, replayed, superseded)


def as_published(rows: pa.RecordBatch | pa.Table) -> pa.Table:
    """Rows of score files with the columns and types of the table."""
    return plain(rows).select(SCHEMA.names).cast(SCHEMA)


def _replayed(folder: str, files: list[str], old: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Of images in doubt: the rows that come, and those of the table that go, by all their rows.

    Args:
        old: rows of the table, all of those images.
    """
    condition = pc.field("uri").isin(pc.unique(old["uri"]))
    read = [as_published(each) for each in read_rows(folder, files, COLUMNS.names, condition)]
    history = pa.concat_tables([SCHEMA.empty_table(), *read])
    holds = _mask(_frame(old, _of_strings(history)))
    return history.filter(pa.array(holds[len(old) :])), old.filter(pa.array(~holds[: len(old)]))


def _keys(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """What decides which row holds, of rows."""
    return pa.Table.from_batches(batches, schema=_KEYS).unify_dictionaries()


def _of_strings(rows: pa.Table) -> pa.Table:
    """The same, of rows that have strings in the place of dictionaries."""
    columns = [
        rows[each.name].dictionary_encode()
        if pa.types.is_dictionary(each.type)
        else rows[each.name]
        for each in _KEYS
    ]
    return pa.table(columns, schema=_KEYS)


def _frame(old: pa.Table, new: pa.Table) -> pd.DataFrame:
    """For ``rows_that_hold``: rows of the table, then new ones, which win where all else is equal.

    Images and ids are numbers that are equal where the strings are.
    """
    rows = pa.concat_tables([_of_strings(old), new]).unify_dictionaries()
    numbers = {name: _codes(rows[name]) for name in _NUMBERED}
    others = {name: rows[name].to_pandas() for name in HELD_BY if name not in _NUMBERED}
    return pd.DataFrame(numbers | others)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int32]:
    # Large: the distinct strings of all chunks become one array, which may exceed 2 GB.
    coded = column.cast(pa.large_string()).dictionary_encode().unify_dictionaries()
    chunks = [chunk.indices.to_numpy() for chunk in coded.chunks]
    return np.concatenate([np.empty(0, np.int32), *chunks])


def _mask(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Which of the rows hold."""
    mask = np.zeros(len(frame), dtype=bool)
    mask[rows_that_hold(frame).index] = True
    return mask


def _in_doubt(frame: pd.DataFrame, holds: NDArray[np.bool_], num_old: int) -> NDArray[np.int32]:
    """The images [n], as numbers, of which rows that the table lacks may decide.

    Objects and base models of which a row is an error, and

    - a new error that may pass holds, of a version that the table has no row of: the history may
      have a final one, which hides it;
    - or a new row is older than one that the table has;
    - or an error of the table goes, and no row takes its place: an older score may come back.

    Args:
        frame: rows of the table, then new ones (``_frame``).
        holds: which of them hold, as far as these tell [n].
        num_old: how many are of the table.
    """
    is_old = np.arange(len(frame)) < num_old
    met = frame["uri"].isin(frame["uri"][is_old]).to_numpy()
    frame, holds, is_old = frame[met], holds[met], is_old[met]
    group = frame.groupby([frame["uri"], frame["model"].map(base_of)], observed=True).ngroup()
    failed = frame["error"].notna()
    passing = failed & ~frame["error"].isin(_FINAL)
    key = frame.groupby(["uri", "model", "category"], observed=True, dropna=False).ngroup()

    unheard = passing & holds & ~is_old & ~frame["image_id"].isin(frame["image_id"][is_old])
    newest_old = frame["scored_at"].where(is_old).groupby(group).transform("max")
    late = ~is_old & (frame["scored_at"] < newest_old)
    left = failed & is_old & ~holds & ~key.isin(key[holds])
    doubt = group[unheard | late | left]
    doubted = group.isin(doubt) & group.isin(group[failed]) & group.isin(group[is_old])
    found: NDArray[np.int32] = frame["uri"][doubted].unique()
    return found
