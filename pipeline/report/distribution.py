"""Scores of a category in bounded memory: their distribution, and the highest of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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

    def merge(self, other: Histogram) -> None:
        """Add another histogram's scores."""
        self._counts += other._counts
        self.highest = max(self.highest, other.highest)

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


class Highest:
    """The images with the highest scores: their ids and the files that hold their rows."""

    def __init__(self, size: int) -> None:
        self._size = size
        kinds = [("score", "f4"), ("logit", "f4"), ("id", "S32"), ("file", "i4")]
        self._rows = np.empty(0, dtype=kinds)

    def add(
        self, scores: NDArray[np.float32], logits: NDArray[np.float32], ids: pa.Array, file: int
    ) -> None:
        """Add images.

        Args:
            scores: [n].
            logits: [n] of the scores, which decide where these are equal; NaN where unknown.
            ids: [n], hexadecimal.
            file: number of the file that they are in.
        """
        if len(self._rows) >= self._size:  # then most images are none of them
            higher = np.flatnonzero(scores >= self._rows["score"][-1])
        else:
            higher = np.arange(len(scores))
        if len(higher) > 4 * self._size:
            least = np.partition(scores[higher], -2 * self._size)[-2 * self._size]
            higher = higher[scores[higher] >= least]
        added = np.empty(len(higher), dtype=self._rows.dtype)
        added["score"], added["file"] = scores[higher], file
        added["logit"] = np.nan_to_num(logits[higher], nan=-np.inf)
        added["id"] = ids.take(pa.array(higher)).to_numpy(zero_copy_only=False).astype("S32")
        rows = np.concatenate([self._rows, added])
        rows = rows[np.lexsort((rows["id"], -rows["logit"], -rows["score"]))]
        # The same image twice: it was scored again.
        _, first = np.unique(rows["id"], return_index=True)
        self._rows = rows[np.sort(first)][: self._size]

    def rows(self) -> list[tuple[float, float, str, int]]:
        """Score, logit, id and file of each, the highest first."""
        return [(float(s), float(x), i.decode(), int(f)) for s, x, i, f in self._rows]


def take_turns(highest: Iterable[Highest], count: int) -> list[tuple[str, int]]:
    """At most ``count`` images of several categories: ids, and the files that hold their rows.

    First the highest of every category, then the second ones, and so on: categories differ in how
    high their good images score, and one that scores high must not push out all others.
    """
    turns = [
        (rank, -score, -logit, image_id, file)
        for each in highest
        for rank, (score, logit, image_id, file) in enumerate(each.rows())
    ]
    return [(image_id, file) for *_, image_id, file in sorted(turns)[:count]]
