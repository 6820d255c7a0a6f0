"""The rows that rank highest, of each category or of all, while a table passes by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.output.rows import plain

ALL = ""  # in the place of a category
# Ranking costs the same for a row as for a thousand, so rows wait until there are some.
WAITING_ROWS = 4_096


class Best:
    """The highest rows so far: the same ones, however the table is cut into parts.

    Among rows whose values are equal, the smaller image_id is the higher.
    """

    def __init__(
        self, size: int, schema: pa.Schema, order: Sequence[str], *, per_category: bool
    ) -> None:
        """Keep nothing yet.

        Args:
            size: how many rows, of each category or of all, at least 1.
            schema: of what is kept of a row, ``order``, category and image_id among it.
            order: what ranks the rows: where the first column is equal, the second; null is last.
            per_category: so many of each category, else of all.
        """
        self._size, self._order, self._per_category = size, order, per_category
        self._kept = plain(schema.empty_table())
        self._waiting: list[pa.Table] = []
        self._lowest: dict[str, float] = {}  # of what is full; soon hardly a row is as high

    def may_hold(self, rows: pa.Table) -> pa.Array:
        """Which rows have a value, and one as high as the lowest of so many; may be called by
        threads beside the one that adds.

        Args:
            rows: with the first column of the order, and the category.
        """
        values = rows[self._order[0]].to_numpy()
        if not self._per_category:
            return pa.array(values >= self._lowest.get(ALL, -np.inf))
        category = rows["category"].combine_chunks()
        names = category.dictionary.to_pylist()
        lowest = np.array([*(self._lowest.get(name, -np.inf) for name in names), np.inf])
        return pa.array(values >= lowest[category.indices.fill_null(len(names)).to_numpy()])

    def add(self, rows: pa.Table) -> None:
        """Take rows, with a dictionary of categories."""
        found = plain(rows.select(self._kept.column_names).filter(self.may_hold(rows)))
        self._waiting.append(found)
        if sum(map(len, self._waiting)) >= WAITING_ROWS:
            self._rank()

    def result(self) -> tuple[pd.DataFrame, list[str]]:
        """The rows, the highest first, and the categories (or ``ALL``) that have so many."""
        self._rank()
        ascending = [*(False for _ in self._order), True]
        frame = self._kept.to_pandas().sort_values([*self._order, "image_id"], ascending=ascending)
        return frame, list(self._lowest)

    def _rank(self) -> None:
        rows = pa.concat_tables([self._kept, *self._waiting])
        keys: list[Any] = [("category", "ascending")] if self._per_category else []
        keys += [*((name, "descending") for name in self._order), ("image_id", "ascending")]
        rows = rows.take(pc.sort_indices(rows, keys))
        rank = self._rank_in_group(rows)
        for last in np.flatnonzero(rank == self._size - 1):
            name = rows["category"][last].as_py() if self._per_category else ALL
            self._lowest[name] = rows[self._order[0]][last].as_py()
        self._kept = rows.filter(pa.array(rank < self._size)).combine_chunks()
        self._waiting = []

    def _rank_in_group(self, rows: pa.Table) -> NDArray[np.int64]:
        """Of sorted rows, from 0."""
        numbers = np.arange(len(rows))
        if not self._per_category:
            return numbers
        codes = pc.rank(rows["category"].combine_chunks(), tiebreaker="dense").to_numpy()
        starts = np.diff(codes, prepend=0) > 0
        return numbers - np.maximum.accumulate(np.where(starts, numbers, 0))
