"""Nights of the score table, and samples of their rows in bounded memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.output.layout import by_scan_date
from pipeline.output.ledger import ids_from_hex
from pipeline.output.rows import by_category, measured

# 100 images lie over the 0.999 quantile of so many, which gives that share to about 10 %; far more
# than the drift test needs. 2.4 MB a category.
SAMPLE_SIZE = 100_000

SAMPLED = ("image_id", "category", "score", "anomalous_area")


class Sample:
    """Scores and anomalous areas of one category: all of them, or a uniform sample.

    An image_id is a hash, so the images with the smallest ids are a random choice: the same one in
    whatever order rows come.
    """

    def __init__(self, size: int = SAMPLE_SIZE) -> None:
        self.num_images = 0
        """Images that the sample stands for."""
        self._size = size
        self._rows = np.empty(0, dtype=[("id", "S16"), ("score", "f4"), ("anomalous_area", "f4")])

    def add(
        self, ids: NDArray[np.bytes_], scores: NDArray[np.float32], areas: NDArray[np.float32]
    ) -> None:
        """Add images: ids [n] of 16 bytes, scores [n], anomalous areas [n]."""
        self.num_images += len(ids)
        if len(self._rows) >= self._size:
            smaller = ids < self._rows["id"][-1]
            ids, scores, areas = ids[smaller], scores[smaller], areas[smaller]
        added = np.empty(len(ids), dtype=self._rows.dtype)
        added["id"], added["score"], added["anomalous_area"] = ids, scores, areas
        self._rows = np.concatenate([self._rows, added])
        if len(self._rows) >= self._size:
            self._rows = self._rows[np.argsort(self._rows["id"], kind="stable")[: self._size]]

    def values(self, measure: str) -> NDArray[np.float32]:
        """The sampled "score" or "anomalous_area" [at most size], in no particular order."""
        values: NDArray[np.float32] = self._rows[measure]
        return values


def nights_of(files: Iterable[str], scan_date: str, nights: int) -> dict[str, list[str]]:
    """Score files by scan date: that night's and those of the last ``nights`` before it."""
    by_date = by_scan_date(files)
    past = [date for date in by_date if date < scan_date][-nights:]
    return {date: by_date[date] for date in [*past, scan_date] if date in by_date}


def sample_categories(batches: Iterable[pa.RecordBatch]) -> dict[str, Sample]:
    """One sample for every category; batches hold the columns ``SAMPLED``, with scores."""
    samples: dict[str, Sample] = defaultdict(Sample)
    for rows in batches:
        ids = ids_from_hex(rows.column("image_id"))
        scores, areas = measured(rows, "score"), measured(rows, "anomalous_area")
        for category, positions in by_category(rows):
            samples[category].add(ids[positions], scores[positions], areas[positions])
    return dict(samples)
