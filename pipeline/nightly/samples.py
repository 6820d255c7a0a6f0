"""Rows of the score table by night, and samples of them, in bounded memory."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.output.ledger import ids_from_hex
from pipeline.output.snapshot import score_dataset
from pipeline.schema import SCORE_SCHEMA

# 100 images lie over the 0.999 quantile of so many, which gives that share to about 10 %; far more
# than the drift test needs. 2.4 MB a category.
SAMPLE_SIZE = 100_000
BATCH_ROWS = 65_536
FILES_AHEAD = 2  # Arrow would read 4 files and 16 batches ahead

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
    by_date: dict[str, list[str]] = defaultdict(list)
    for uri in files:
        found = re.search(r"/scan_date=(\d{4}-\d\d-\d\d)/[^/]+$", uri)
        if found and found[1] <= scan_date:
            by_date[found[1]].append(uri)
    past = sorted(date for date in by_date if date < scan_date)[-nights:]
    return {date: by_date[date] for date in [*past, scan_date] if date in by_date}


def read_rows(
    output: str, files: list[str], columns: Iterable[str], condition: pc.Expression
) -> Iterator[pa.RecordBatch]:
    """Batches of rows with some columns of ``SCORE_SCHEMA``.

    Raises:
        OSError, pa.ArrowException: a file can't be read; the message names it.
    """
    if files:
        yield from score_dataset(f"{output}/scores", files, SCORE_SCHEMA).to_batches(
            columns=list(columns),
            filter=condition,
            batch_size=BATCH_ROWS,
            batch_readahead=FILES_AHEAD,
            fragment_readahead=FILES_AHEAD,
        )


def by_category(rows: pa.RecordBatch) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Categories of a batch, each with the positions of its rows; rows without one are left out."""
    column = rows.column("category")
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    for positions in np.split(order, starts)[1:]:
        yield column.dictionary[int(codes[positions[0]])].as_py(), positions


def sample_categories(batches: Iterable[pa.RecordBatch]) -> dict[str, Sample]:
    """One sample for every category; batches hold the columns ``SAMPLED``, with scores."""
    samples: dict[str, Sample] = defaultdict(Sample)
    for rows in batches:
        if not rows.num_rows:
            continue
        ids = ids_from_hex(rows.column("image_id"))
        scores, areas = measured(rows, "score"), measured(rows, "anomalous_area")
        for category, positions in by_category(rows):
            samples[category].add(ids[positions], scores[positions], areas[positions])
    return dict(samples)


def measured(rows: pa.RecordBatch, measure: str) -> NDArray[np.float32]:
    """A batch's "score", "score_logit", "map_max" or "anomalous_area" [n]; NaN where it is null."""
    values: NDArray[np.float32] = rows.column(measure).to_numpy(zero_copy_only=False)
    return values
