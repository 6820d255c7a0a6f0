"""The alert rule: which of a night's images call for a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.calibration import MEASURES, Calibration, Measure
from pipeline.output.rows import measured
from pipeline.redaction import holds_credential

from .samples import Sample


@dataclass(frozen=True, kw_only=True)
class AlertRule:
    """Fires when enough images of one category are over a threshold of that category.

    Categories differ in how high their good images score, so a threshold is a quantile of what the
    category's images had in past nights under the same model. By construction a share of
    ``1 - quantile`` of unchanged images is over it: of 1,000 images a night about one is over the
    0.999 quantile. The review tells that expected number beside the found one; where it is large,
    raise the quantile or ``min_count``.

    Thresholds that were calibrated on known-good images take the place of the past's for the
    categories that have one.
    """

    score_quantile: float | None = 0.999
    """Quantile of past scores that is the threshold of the score; None = no such threshold."""
    area_quantile: float | None = None
    """The same for the anomalous area (share of the image, 0 to 1)."""
    max_score: float | Mapping[str, float] | None = None
    """A threshold of the score that needs no past: one for all categories, or one for each."""
    thresholds: str | None = None
    """Calibrated thresholds of this model, of jobs/calibrate.py: a path or URI."""
    measure: Measure = "score"
    """Which of the calibrated thresholds counts."""
    min_images: int = 200
    """Past images that a category needs before a quantile of them is a threshold."""
    nights: int = 30
    """How many past nights count, for thresholds and drift."""
    min_count: int = 1
    """Images over a threshold that fire the alert."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the setting and the remedy.
        """
        for name in ("score_quantile", "area_quantile"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < 1):
                raise ValueError(f"alert {name} is {value!r}; a quantile is between 0 and 1")
        limits = self.max_score if isinstance(self.max_score, Mapping) else {"": self.max_score}
        for category, limit in limits.items():
            if limit is not None and not (_is_number(limit) and 0 <= limit <= 1):
                of = f" of {category!r}" if category else ""
                raise ValueError(f"alert max_score{of} is {limit!r}; scores are from 0 to 1")
        if self.measure not in MEASURES:
            raise ValueError(f"alert measure is {self.measure!r}; known are {', '.join(MEASURES)}")
        if self.thresholds is not None and holds_credential(self.thresholds):
            raise ValueError("alert thresholds holds a password or a signature; leave it out")
        for name in ("min_images", "nights", "min_count"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"alert {name} is {value!r}; it must be a whole number from 1 on")
        given = (self.score_quantile, self.area_quantile, self.max_score, self.thresholds)
        if all(each in (None, {}) for each in given):
            raise ValueError(
                "an alert rule without any threshold never fires; give thresholds, "
                "score_quantile, area_quantile or max_score, or leave the rule out"
            )

    def limits(
        self, category: str, past: Sample, calibration: Calibration | None = None
    ) -> list[Threshold]:
        """Thresholds of a category.

        Args:
            category: the category.
            past: its images of past nights; quantiles need enough of them.
            calibration: what ``thresholds`` names. Where it has the category, the quantile of past
                scores does not count, nor that of the calibrated measure.
        """
        found = []
        absolute = self.max_score
        if isinstance(absolute, Mapping):
            absolute = absolute.get(category)
        if absolute is not None:
            found.append(Threshold("score", float(absolute), 0.0, "the rule's max_score"))
        limit = calibration and calibration.limits.get(category, {}).get(self.measure)
        if calibration and limit:
            why = calibration.statement(category, self.measure)
            found.append(Threshold(self.measure, limit.value, limit.expected, why))
        quantiles: tuple[tuple[Measure, float | None], ...] = (
            ("score", self.score_quantile),
            ("anomalous_area", self.area_quantile),
        )
        for measure, quantile in quantiles:
            if quantile is None or past.num_images < self.min_images:
                continue
            if limit and measure in ("score", self.measure):
                continue
            # A value that was seen, not one between two: with few images it is their maximum.
            value = float(np.quantile(past.values(measure), quantile, method="higher"))
            chance = max(1 - quantile, 1 / (past.num_images + 1))
            why = f"the {quantile:g} quantile of {past.num_images:,} past images"
            found.append(Threshold(measure, value, chance, why))
        return found

    def as_dict(self) -> dict[str, Any]:
        """The rule, ready for JSON."""
        plain = asdict(self)
        return plain | {"max_score": dict(m) if isinstance(m := self.max_score, Mapping) else m}


@dataclass(frozen=True)
class Threshold:
    """What is over it counts for the alert."""

    measure: Measure
    value: float
    chance: float = 0.0
    """Share of unchanged images that is over it, 0 where that is not known."""
    why: str = ""
    """Where the value comes from, in words."""

    def exceeded(self, rows: pa.RecordBatch, positions: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of a batch's rows at some positions [n] are over it."""
        over: NDArray[np.bool_] = measured(rows, self.measure)[positions] > self.value
        return over


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
