"""Scorers without a model, which show what the rest of the pipeline costs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import ModelSpec
from pipeline.distributed.scorer import AnomalyScorer
from pipeline.output.reference_catalogue import ReferencesInUse
from pipeline.provenance import peak_memory_bytes
from pipeline.schema import scored_schema

if TYPE_CHECKING:
    from .simulated_device import SimulatedDevice

PATCH_SIZE = 14  # of the released model: it gives maps of the released size


class StandInScorer:
    """An ``AnomalyScorer`` that answers at once, with a flat map for every image."""

    def __init__(self, model: ModelSpec, **_: Any) -> None:
        self._grid_size = model.image_size // PATCH_SIZE
        self._grid = np.zeros(self._grid_size**2, dtype=np.int16)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """``schema.pixel_schema`` → ``schema.scored_schema``."""
        started = time.monotonic()
        count, good = len(batch), pc.is_null(batch["error"])
        scored = {"score": 0.5, "map_max": 0.5, "anomalous_area": 0.0}
        scored |= {"grid_height": self._grid_size, "grid_width": self._grid_size}
        scored["logit_grid_q8"] = pa.scalar(self._grid, pa.list_(pa.int16()))
        columns = {name: batch[name] for name in batch.column_names if name != "pixels"}
        columns |= {
            name: pc.if_else(good, pa.scalar(value, scored_schema().field(name).type), None)
            for name, value in scored.items()
        }
        columns["scorer_memory"] = pa.repeat(peak_memory_bytes(), count)
        columns["score_s"] = pa.repeat((time.monotonic() - started) / max(count, 1), count)
        arrays = [
            columns[field.name].cast(field.type)
            if field.name in columns
            else pa.nulls(count, field.type)
            for field in scored_schema()
        ]
        return pa.table(arrays, schema=scored_schema())


class SimulatedScorer(AnomalyScorer):
    """An ``AnomalyScorer`` with all of its own work, on a simulated device.

    Its ``score_s`` add up to the time from its first batch to its last, waiting for batches
    included.
    """

    images_per_s: float

    def _load(self, model: ModelSpec, references: ReferencesInUse, **_: Any) -> SimulatedDevice:
        from .simulated_device import SimulatedDevice  # not above: as in AnomalyScorer

        return SimulatedDevice(model.image_size, model.image_size // PATCH_SIZE, self.images_per_s)

    def _seconds(self, began: float) -> float:
        with self._clock:
            before = self._ended or began
            self._ended = time.monotonic()
            return self._ended - before


def scorer_of_known_speed(images_per_s: float) -> type[SimulatedScorer]:
    """A scorer on a device of this speed."""
    return type("TimedScorer", (SimulatedScorer,), {"images_per_s": images_per_s})
