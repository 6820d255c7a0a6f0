"""What is kept of rows while they pass: how they ended, and the highest of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .rows import measured, plain

BY_SCORE = ("score", "score_logit")
"""Scores near 1 round to the same, their logits don't."""


@dataclass
class Tally:
    """How many rows have a score and how many which error, with examples of each error."""

    num_examples: int = 0
    """So many of the first rows with an error are kept."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """What an example tells, and the column that has it."""
    scored: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """All that were counted."""
        return self.scored + self.errors.total()

    def add(self, rows: pa.RecordBatch | pa.Table) -> pa.RecordBatch | pa.Table:
        """Count rows; returns those with a score."""
        failed = rows.filter(rows.column("error").is_valid())
        if not failed.num_rows:
            self.scored += rows.num_rows
            return rows
        codes = failed.column("error").cast(pa.string())
        for code, count in Counter(codes.to_pylist()).items():
            self.errors[code] += count
            kept = self.examples.setdefault(code, [])
            if len(kept) < self.num_examples:
                these = failed.filter(pc.equal(codes, code)).select(list(self.shown.values()))
                these = these.slice(0, self.num_examples - len(kept))
                kept += these.rename_columns(list(self.shown)).to_pylist()
        scored = rows.filter(rows.column("error").is_null())
        self.scored += scored.num_rows
        return scored


class Highest:
    """The rows that rank highest so far: the same ones, however rows are cut into batches.

    Among rows whose values are equal, the smaller image_id is the higher.
    """

    def __init__(
        self,
        size: int,
        columns: Sequence[str] = (),
        order: Sequence[str] = BY_SCORE,
        *,
        distinct: bool = False,
    ) -> None:
        """Keep nothing yet.

        Args:
            size: how many rows, at most.
            columns: what is kept of a row beside ``order`` and image_id.
            order: what ranks the rows: where the first column is equal, the second; null is last.
            distinct: of several rows with one image_id, keep the highest only.
        """
        self._size, self._order, self._distinct = size, order, distinct
        self._columns = list(dict.fromkeys(["image_id", *order, *columns]))
        self.lowest = -np.inf
        """Rows whose first value is below it are not among the highest any more."""
        self.rows: pa.Table | None = None
        """Those kept, the highest first, with strings for dictionaries; None before any came."""

    @property
    def full(self) -> bool:
        """Whether there are as many as were asked for."""
        return self.rows is not None and self.rows.num_rows >= self._size

    def add(
        self, rows: pa.RecordBatch | pa.Table, positions: NDArray[np.intp] | None = None
    ) -> None:
        """Take rows, or those at some positions, all with a value in the first column."""
        values = measured(rows, self._order[0])
        if positions is None:
            positions = np.arange(rows.num_rows)
        positions = positions[values[positions] >= self.lowest]
        if not (self._size and len(positions)):
            return
        found = plain(rows.select(self._columns).take(pa.array(positions)))
        if self.rows is not None:
            found = pa.concat_tables([self.rows, found])
        keys = [(name, "descending") for name in self._order]
        best = pc.sort_indices(found, [*keys, ("image_id", "ascending")])
        if self._distinct:
            ids = found.column("image_id").take(best).to_numpy()
            best = best.take(pa.array(np.sort(np.unique(ids, return_index=True)[1])))
        self.rows = found.take(best[: self._size]).combine_chunks()
        if self.full:
            self.lowest = measured(self.rows, self._order[0])[-1]

    def to_pylist(self) -> list[dict[str, Any]]:
        """The rows as dictionaries, the highest first."""
        return [] if self.rows is None else self.rows.to_pylist()
