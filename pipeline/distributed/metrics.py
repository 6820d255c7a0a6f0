"""A scan's progress as Prometheus metrics, through Ray's exporter on every node.

Ray puts ``ray_`` before the names, and ``_total`` behind those of counters.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from ray.util.metrics import Counter, Gauge

from pipeline.schema import TIMINGS

IMAGES_SCORED = "adaclip_images_scored"
ERRORS = "adaclip_errors"
BACKLOG = "adaclip_backlog"
STAGE_SECONDS = "adaclip_stage_seconds"


class ScanMetrics:
    """Metrics of one run, tagged with its source; kept by the driver, which sees every row."""

    def __init__(self, source: str, backlog: int) -> None:
        """Start with ``backlog`` images to do. Needs ``ray.init`` before."""
        self._tags = {"source": source}
        self._scored = Counter(IMAGES_SCORED, "Images with a score.", ("source",))
        self._errors = Counter(ERRORS, "Images without a score, by code.", ("source", "code"))
        self._backlog_gauge = Gauge(BACKLOG, "Images this run has still to do.", ("source",))
        self._seconds = Counter(
            STAGE_SECONDS, "Busy seconds, summed over all workers.", ("source", "stage")
        )
        self._backlog = backlog
        self._backlog_gauge.set(backlog, self._tags)

    def add(self, rows: pa.Table) -> None:
        """Count scored rows (``schema.scored_schema``)."""
        if scored := len(rows) - (failed := pc.count(rows["error"]).as_py()):
            self._scored.inc(scored, self._tags)
        if failed:
            for found in pc.value_counts(pc.drop_null(rows["error"])).to_pylist():
                self._errors.inc(found["counts"], {**self._tags, "code": found["values"]})
        for name in TIMINGS:
            if spent := pc.sum(rows[name]).as_py():
                self._seconds.inc(spent, {**self._tags, "stage": name.removesuffix("_s")})
        self._backlog -= len(rows)
        self._backlog_gauge.set(self._backlog, self._tags)
