"""What a night's run found, compared with the nights before: review.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from pipeline.terminal import clean

from .alerts import Threshold
from .drift import Drift


@dataclass(frozen=True, kw_only=True)
class ReviewedImage:
    """An image that a review names; what its row lacks, as rows of older versions do, is None."""

    uri: str
    category: str | None
    score: float
    score_logit: float | None = None
    anomalous_area: float | None = None
    """Share of the image, 0 to 1."""
    box: tuple[int | None, ...]
    """x0, y0, x1, y1 of the strongest region, in pixels of the original image."""


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Whether the alert rule fired, why, and what it went by."""

    fired: bool = False
    reasons: tuple[str, ...] = ()
    images: tuple[ReviewedImage, ...] = ()
    """The worst of those that it means."""
    rule: Mapping[str, Any] | None = None
    """``AlertRule.as_dict``; None without a rule."""
    thresholds: Mapping[str, tuple[Threshold, ...]] = field(default_factory=dict)
    """By category."""
    uncalibrated: Mapping[str, int] = field(default_factory=dict)
    """Categories without a calibrated threshold that are too new for a quantile, with their number
    of past images."""
    outdated: tuple[str, ...] = ()
    """Categories whose calibrated thresholds are of other references."""

    def of(self, category: str | None) -> tuple[Threshold, ...]:
        """The thresholds of a category; none of those without a name."""
        return self.thresholds.get(category or "", ())


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Images of a review."""

    new: int = 0
    scored: int = 0
    errors: int = 0


@dataclass(frozen=True, kw_only=True)
class Review:
    """What a night's run found, as review.json holds it; an empty one is of no run.

    Files of older versions lack some fields, which then have their defaults.
    """

    run_id: str = ""
    model: str = ""
    """Fingerprint of AdaCLIP and the decoder."""
    references: Mapping[str, str] = field(default_factory=dict)
    """By category, the id of its reference set."""
    scan_date: str = ""
    untold_runs: tuple[str, ...] = ()
    """Earlier runs whose rows belong here: they ended before anybody was told of them."""
    past_nights: tuple[str, ...] = ()
    """Scan dates that thresholds and drift compare with."""
    counts: Counts = Counts()
    errors: Mapping[str, int] = field(default_factory=dict)
    """By code, the most frequent first."""
    most_anomalous: tuple[ReviewedImage, ...] = ()
    drift: tuple[Drift, ...] = ()
    alert: Alert = Alert()

    @property
    def drifted(self) -> list[str]:
        """Categories whose scores have another distribution than before."""
        return [each.category for each in self.drift if each.drifted]

    def of_references(self, references: Mapping[str, str]) -> Review:
        """Without thresholds and drift of categories that have other references than these."""

        def same(category: str) -> bool:
            return self.references.get(category) == references.get(category)

        thresholds = {name: each for name, each in self.alert.thresholds.items() if same(name)}
        drift = tuple(each for each in self.drift if same(each.category))
        return replace(self, drift=drift, alert=replace(self.alert, thresholds=thresholds))

    def to_json(self) -> dict[str, Any]:
        """What review.json holds."""
        found: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return found | {"drifted": self.drifted}

    @staticmethod
    def from_json(found: dict[str, Any]) -> Review:
        """A review from what review.json holds, of any version.

        Raises:
            ValueError: it is no review.
        """
        return _adapter().validate_python(found)

    def table(self, limit: int = 10) -> str:
        """For a terminal; names that others chose are escaped."""
        counts, alert = self.counts, self.alert
        lines = [f"  {counts.new:,} new images: {counts.scored:,} scored"]
        lines[0] += "".join(f", {n:,} {clean(code)}" for code, n in self.errors.items())
        lines.append("  alert: " + ("FIRED" if alert.fired else "not fired"))
        lines += [f"    {clean(reason, 200)}" for reason in alert.reasons[:limit]]
        if alert.outdated:
            names = clean(", ".join(alert.outdated), 200)
            lines.append(f"    thresholds of other references, to calibrate again: {names}")
        drifted = [each for each in self.drift if each.drifted]
        lines.append(f"  drift: {len(drifted)} of {len(self.drift)} categories compared")
        lines += [
            f"    {clean(each.category, 40)}: median {each.past_median:.3f} -> {each.median:.3f}, "
            f"statistic {each.statistic:.2f}, p {each.p_value:.1g}"
            for each in drifted[:limit]
        ]
        lines += ["  most anomalous"] if self.most_anomalous else []
        lines += [
            f"    {image.score:.3f}  {clean(image.category or '', 24):<24} {clean(image.uri)}"
            for image in self.most_anomalous[:limit]
        ]
        return "\n".join(lines)


@cache
def _adapter() -> TypeAdapter[Review]:
    return TypeAdapter(Review)
