"""What became of a night's sources: the summary, and what the webhooks are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from pipeline.storage import absolute
from pipeline.terminal import clean

from .review import Review
from .scans import Source

KEPT = ("counts", "errors", "seconds", "images_per_s", "bytes")  # of report.json, in the summary

Status = Literal["done", "too_many_errors", "failed", "not_reviewed", "interrupted", "not_run"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one source."""

    source: Source
    run_id: str = ""
    status: Status = "not_run"
    message: str = ""
    """Why the status is not done."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """report.json; empty if the run did not get that far."""
    review: Review | None = None
    """None where there was nothing to review."""
    page: str | None = None
    """URI of the run's report.html; None if there is none."""

    def count(self, name: str) -> int:
        """One of the report's counts; 0 if the run did not get that far."""
        found: int = self.report.get("counts", {}).get(name, 0)
        return found

    def to_json(self) -> dict[str, Any]:
        """What the summary holds."""
        return {
            "name": self.source.name,
            "output": absolute(self.source.config.output),
            "run_id": self.run_id,
            "status": self.status,
            "message": self.message,
            "model": self.report.get("model", ""),
            "page": self.page,
            **{name: self.report.get(name, {}) for name in KEPT},
            "review": self.review and self.review.to_json(),
        }

    def line(self) -> str:
        """Its line in the night's table."""
        scored, errors = self.count("scored"), self.count("errors")
        new = scored + errors + self.count("not_reached")
        fired, drifted = "-", "-"
        if self.review:
            fired = "FIRED" if self.review.alert.fired else "no"
            drifted = str(len(self.review.drifted))
        return (
            f"  {self.source.name[:23]:<24}{self.status:<17}{new:>10,}{scored:>10,}{errors:>8,}"
            f"  {fired:<5}  {drifted}"
        )


@dataclass(frozen=True, kw_only=True)
class Night:
    """What became of all sources."""

    scan_date: str
    results: tuple[Result, ...]
    night_id: str = field(default_factory=lambda: uuid4().hex[:8])
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    problems: tuple[str, ...] = ()
    """What went wrong beside the sources, such as a webhook that did not answer."""

    @property
    def failed(self) -> list[str]:
        """Names of the sources that are not done."""
        return [each.source.name for each in self.results if each.status != "done"]

    @property
    def alerts(self) -> list[str]:
        """Names of the sources whose alert rule fired."""
        return [r.source.name for r in self.results if r.review and r.review.alert.fired]

    def of(self, webhook: str) -> Night:
        """The same night of those sources alone that name a webhook."""
        return replace(self, results=tuple(r for r in self.results if r.source.webhook == webhook))

    def with_problems(self, problems: Iterable[str]) -> Night:
        """The same night, with more that went wrong."""
        return replace(self, problems=(*self.problems, *problems))

    def headline(self) -> str:
        """One line, which Slack and Mattermost show as it is."""
        scored = sum(each.count("scored") for each in self.results)
        parts = [f"{scored:,} images of {len(self.results)} sources scored"]
        for what, names in (("ALERT", self.alerts), ("NOT DONE", self.failed)):
            parts += [f"{what}: {', '.join(names)}"] if names else []
        return f"AdaCLIP {self.scan_date}: " + "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The summary."""
        return {
            "night_id": self.night_id,
            "scan_date": self.scan_date,
            "started": self.started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "failed": self.failed,
            "alerts": self.alerts,
            "problems": list(self.problems),
            "sources": [each.to_json() for each in self.results],
        }

    def table(self) -> str:
        """The summary for a terminal."""
        lines = [
            f"night {self.scan_date} ({self.night_id})",
            f"  {'source':<24}{'status':<17}{'new':>10}{'scored':>10}{'errors':>8}  alert  drift",
            *(each.line() for each in self.results),
        ]
        for each in self.results:
            if each.message:
                lines += ["", f"{each.source.name}: {clean(each.message, 500)}"]
            if each.review and each.review.counts.new:
                lines += ["", each.source.name, each.review.table()]
        pages = [each for each in self.results if each.page]
        lines += ["", "pages"] if pages else []
        lines += [f"  {each.source.name[:23]:<24}{clean(str(each.page), 500)}" for each in pages]
        return "\n".join([*lines, *(f"problem: {clean(text)}" for text in self.problems)])
