"""Scores of a category in bounded memory: their distribution; and whose images are shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.output.tally import BY_SCORE, Highest

BINS = 500  # over [0, 1]: quantiles are right to 0.002
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Histogram:
    """How many scores lie where, exactly; and quantiles to a bin's width."""

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, dtype=np.int64)
        self.highest = 0.0
        """The highest score, 0 if there is none."""

    @property
    def num_images(self) -> int:
        """Scores that were added."""
        return int(self._counts.sum())

    def add(self, scores: NDArray[np.float32]) -> None:
        """Add scores [n] in [0, 1]."""
        if len(scores):
            bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
            self._counts += np.bincount(bins, minlength=BINS)
            self.highest = max(self.highest, float(scores.max()))

    def quantile(self, share: float) -> float:
        """The score below which a share of the images lies; 0 without images."""
        cumulative = np.cumsum(self._counts)
        if not cumulative[-1]:
            return 0.0
        target = share * cumulative[-1]
        at = int(np.searchsorted(cumulative, target, side="left"))
        before = cumulative[at - 1] if at else 0
        inside = (target - before) / max(int(self._counts[at]), 1)
        return float(min((at + inside) / BINS, self.highest))

    def summary(self) -> list[float]:
        """Number of images, ``QUANTILES``, and the highest score."""
        quantiles = [round(self.quantile(share), 4) for share in QUANTILES]
        return [self.num_images, *quantiles, round(self.highest, 4)]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: the counts from the first bin that is not empty to the last one."""
        filled = np.flatnonzero(self._counts)
        start, end = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
        return {"start": start, "counts": self._counts[start:end].tolist()}


def take_turns(highest: Iterable[Highest], count: int) -> list[dict[str, Any]]:
    """At most ``count`` of the highest rows of several categories, as dictionaries.

    First the highest of every category, then the second ones, and so on: categories differ in how
    high their good images score, and one that scores high must not push out all others.
    """
    ranked = [
        each.rows.append_column("rank", pa.array(range(each.rows.num_rows)))
        for each in highest
        if each.rows
    ]
    if not ranked:
        return []
    rows = pa.concat_tables(ranked)
    falling = [(name, "descending") for name in BY_SCORE]
    order = [("rank", "ascending"), *falling, ("image_id", "ascending")]
    chosen: list[dict[str, Any]] = rows.take(pc.sort_indices(rows, order)[:count]).to_pylist()
    return chosen
