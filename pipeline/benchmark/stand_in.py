"""Scorers without a model, which show what the rest of the pipeline costs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import ModelSpec
from pipeline.provenance import peak_memory_bytes
from pipeline.schema import scored_schema

PATCH_SIZE = 14  # of the released model: it gives maps of the released size


class StandInScorer:
    """An ``AnomalyScorer`` that answers at once, with a flat map for every image.

    Its ``score_s`` add up to the time from its first batch to its last, waiting for batches
    included.
    """

    images_per_s = float("inf")

    def __init__(self, model: ModelSpec, **_: Any) -> None:
        self._grid_size = model.image_size // PATCH_SIZE
        self._grid = np.zeros(self._grid_size**2, dtype=np.float16)
        self._ended: float | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """``schema.pixel_schema`` → ``schema.scored_schema``."""
        started = time.monotonic()
        size, memory = self._grid_size, peak_memory_bytes()
        scored = {"score": 0.5, "map_max": 0.5, "anomalous_area": 0.0}
        grid = {"logit_grid": self._grid, "grid_height": size, "grid_width": size}
        rows = batch.drop_columns(["pixels"]).to_pylist()
        for row in rows:
            row |= {"scorer_memory": memory} | (scored | grid if row["error"] is None else {})
        # Waiting, not working: as a GPU would, it leaves the CPUs to the readers.
        time.sleep(max(0.0, len(batch) / self.images_per_s - (time.monotonic() - started)))
        ended, before = time.monotonic(), self._ended or started
        self._ended = ended
        for row in rows:
            row["score_s"] = (ended - before) / len(batch)
        return pa.Table.from_pylist(rows, schema=scored_schema())


def scorer_of_known_speed(images_per_s: float) -> type[StandInScorer]:
    """A stand-in that takes as long for a batch as a model of this speed would."""
    return type("TimedScorer", (StandInScorer,), {"images_per_s": images_per_s})
