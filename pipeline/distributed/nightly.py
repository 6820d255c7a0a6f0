"""A night: every source scored, reviewed and told of, whatever happens to the others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from pipeline.config import ScoreConfig
from pipeline.inputs.manifest import Manifest, pending_images
from pipeline.nightly import review as morning
from pipeline.nightly import webhook
from pipeline.nightly.rates import Rates, past_rates
from pipeline.nightly.scans import Scans, Source
from pipeline.output.run_files import read_run_file, write_run_file
from pipeline.redaction import redact, redacted_json
from pipeline.storage import StorageError, absolute, write_object
from pipeline.terminal import Say, clean, duration

from .errors import explained
from .fingerprints import fingerprint
from .references.in_use import find_references
from .scorer import AnomalyScorer
from .scoring import final_ids, new_run_id, score_bucket, tell_page

FIRST_KEYS = 5  # that a preview shows
KEPT = ("counts", "errors", "seconds", "images_per_s", "bytes")  # of report.json, in the summary

Status = Literal["done", "too_many_errors", "failed", "not_reviewed", "interrupted", "not_run"]


@dataclass
class Result:
    """What became of one source."""

    source: Source
    run_id: str
    status: Status = "not_run"
    message: str = ""
    """Why the status is not done."""
    report: dict[str, Any] = field(default_factory=dict)
    """report.json; empty if the run did not get that far."""
    review: dict[str, Any] | None = None
    """What ``morning.review`` found; None where there was nothing to review."""
    page: str | None = None
    """URI of the run's report.html; None if there is none."""

    def as_dict(self) -> dict[str, Any]:
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
            "review": self.review,
        }


@dataclass
class Night:
    """What became of all sources."""

    scan_date: str
    results: list[Result]
    night_id: str = field(default_factory=lambda: uuid4().hex[:8])
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    problems: list[str] = field(default_factory=list)
    """What went wrong beside the sources, such as a webhook that did not answer."""

    @property
    def failed(self) -> list[str]:
        """Names of the sources that are not done."""
        return [each.source.name for each in self.results if each.status != "done"]

    @property
    def alerts(self) -> list[str]:
        """Names of the sources whose alert rule fired."""
        return [r.source.name for r in self.results if r.review and r.review["alert"]["fired"]]

    def of(self, webhook: str) -> Night:
        """The same night of those sources alone that name a webhook."""
        return replace(self, results=[r for r in self.results if r.source.webhook == webhook])

    def headline(self) -> str:
        """One line, which Slack and Mattermost show as it is."""
        scored = sum(each.report.get("counts", {}).get("scored", 0) for each in self.results)
        parts = [f"{scored:,} images of {len(self.results)} sources scored"]
        for what, names in (("ALERT", self.alerts), ("NOT DONE", self.failed)):
            parts += [f"{what}: {', '.join(names)}"] if names else []
        return f"AdaCLIP {self.scan_date}: " + "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """The summary."""
        return {
            "night_id": self.night_id,
            "scan_date": self.scan_date,
            "started": self.started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "failed": self.failed,
            "alerts": self.alerts,
            "problems": self.problems,
            "sources": [each.as_dict() for each in self.results],
        }

    def table(self) -> str:
        """The summary for a terminal."""
        lines = [
            f"night {self.scan_date} ({self.night_id})",
            f"  {'source':<24}{'status':<17}{'new':>10}{'scored':>10}{'errors':>8}  alert  drift",
        ]
        for each in self.results:
            counts, review = each.report.get("counts", {}), each.review
            scored, errors = counts.get("scored", 0), counts.get("errors", 0)
            new = scored + errors + counts.get("not_reached", 0)
            fired = "-" if review is None else "FIRED" if review["alert"]["fired"] else "no"
            drifted = "-" if review is None else str(len(review["drifted"]))
            lines.append(
                f"  {each.source.name[:23]:<24}{each.status:<17}{new:>10,}{scored:>10,}{errors:>8,}"
                f"  {fired:<5}  {drifted}"
            )
        for each in self.results:
            if each.message:
                lines += ["", f"{each.source.name}: {clean(each.message, 500)}"]
            if each.review and each.review["counts"]["new"]:
                lines += ["", each.source.name, morning.table(each.review)]
        pages = [each for each in self.results if each.page]
        lines += ["", "pages"] if pages else []
        lines += [f"  {each.source.name[:23]:<24}{clean(str(each.page), 500)}" for each in pages]
        return "\n".join([*lines, *(f"problem: {clean(text)}" for text in self.problems)])


def run_night(
    scans: Scans, scan_date: str, say: Say = print, scorer: type = AnomalyScorer
) -> Night:
    """Score and review all sources, write the summary and tell the webhooks.

    A source that fails, for whatever reason, is noted and the next one begins.

    Args:
        scans: the sources; their scan date should be ``scan_date``.
        scan_date: the night's, YYYY-MM-DD.
        say: receives the progress lines.
        scorer: as of ``score_bucket``.

    Raises:
        KeyboardInterrupt: it was stopped; the summary is written all the same.
    """
    night = Night(scan_date, [Result(source, "") for source in scans.sources])
    try:
        for result in night.results:
            _scan(result, say, scorer)
    except KeyboardInterrupt:
        result.status, result.message = "interrupted", "interrupted"
        _write_summary(night, scans.summary, say)
        raise
    _tell_webhooks(night)
    _write_summary(night, scans.summary, say)
    return night


@dataclass(frozen=True)
class Preview:
    """What a source would score."""

    source: Source
    manifest: Manifest
    first: list[str]
    """URIs of some of the images."""
    rates: Rates | None

    def lines(self, price_per_hour: float | None) -> str:
        """For a terminal: what, how much, how long and for how much money.

        Args:
            price_per_hour: of the whole cluster, in any currency.
        """
        found, rates = self.manifest, self.rates
        known = found.before.errors.total()
        lines = [
            f"{self.source.name}: {found.pending:,} images ({found.pending_bytes / 1e9:,.3g} GB) "
            f"to score, {found.skipped - known:,} scored before, {known:,} with an error before, "
            f"{found.excluded + found.other_outputs.total():,} left out",
            *(f"  {remark}" for remark in found.remarks()),
        ]
        lines += [f"  {clean(uri)}" for uri in self.first]
        if found.pending > len(self.first):
            lines.append(f"  ... and {found.pending - len(self.first):,} more")
        if rates is None:
            lines.append("  no past run under this model to estimate from")
            return "\n".join(lines)
        seconds = rates.seconds(found.pending)
        estimate = (
            f"  about {duration(seconds)} at {rates.images_per_s:.3g} images/s, the median of "
            f"{rates.num_runs} past runs"
        )
        if price_per_hour is not None:
            estimate += f"; about {price_per_hour * seconds / 3600:,.2f} in money"
        return "\n".join([*lines, estimate])


def preview(source: Source) -> Preview:
    """List what a source would score, and write nothing.

    Raises:
        CannotRunError: bad input, output or model.
        StorageError: past runs can't be read.
    """
    config: ScoreConfig = source.config
    model = fingerprint(config)
    identity = find_references(config, model).identity(model)
    manifest, first = Manifest(""), list[str]()
    done = final_ids(config, identity)
    with explained("an input can't be listed"):
        for rows in pending_images(config, identity, done, manifest):
            first += rows["uri"][: FIRST_KEYS - len(first)].to_pylist()
    return Preview(source, manifest, first, past_rates(config.output, identity))


def _scan(result: Result, say: Say, scorer: type) -> None:
    source, config = result.source, result.source.config
    result.run_id = new_run_id()

    def say_here(line: str) -> None:
        say(f"{source.name}: {line}")

    try:
        # The page comes after the review, whose thresholds it draws.
        report = score_bucket(config, say_here, scorer, source.name, result.run_id, page=False)
        result.report = report.as_dict()
        result.status = "done" if report.status == "done" else "too_many_errors"
        result.message = redact(report.message)
    except Exception as error:
        result.status, result.message = "failed", _told(error)
        say_here(f"failed: {clean(result.message, 500)}")
        result.report = _report_of(result)
        _write_page(result, say_here)
        return
    except KeyboardInterrupt:
        result.report = _report_of(result)
        _write_page(result, say_here, pictures=False)
        raise
    try:
        result.review = morning.review(
            config.output,
            run_id=result.run_id,
            identity=report.identity,
            scan_date=config.scan_date,
            rule=source.alert,
        )
        write_run_file(config.output, result.run_id, "review.json", result.review)
    except Exception as error:
        result.message = "; ".join(filter(None, [result.message, f"review: {_told(error)}"]))
        result.status = "not_reviewed"
    _write_page(result, say_here)


def _report_of(result: Result) -> dict[str, Any]:
    """report.json of a run that raised; empty if it did not get that far."""
    with suppress(StorageError, ValueError):
        return read_run_file(result.source.config.output, result.run_id)
    return {}


def _write_page(result: Result, say: Say, *, pictures: bool = True) -> None:
    """The run's report.html; a problem is noted in report.json, and is none of the source."""
    config = result.source.config
    if result.report and not tell_page(config, result.run_id, say, pictures=pictures):
        result.page = f"{absolute(config.output)}/runs/{result.run_id}/report.html"


def _told(error: Exception) -> str:
    from ray.exceptions import RayError  # not above: a night with nothing new needs no Ray

    text = str(error).strip() or type(error).__name__
    if isinstance(error, RayError):
        text = text.splitlines()[-1]  # the cause; pages of traceback stand before it
    return redact(text)


def _tell_webhooks(night: Night) -> None:
    """One message for each webhook, about the sources that name it."""
    for url in dict.fromkeys(each.source.webhook for each in night.results):
        if url:
            told = night.of(url)
            try:
                webhook.post(url, {"text": told.headline()} | told.as_dict())
            except webhook.WebhookError as error:
                night.problems.append(str(error))


def _write_summary(night: Night, folder: str, say: Callable[[str], None]) -> None:
    uri = f"{absolute(folder)}/nightly/{night.scan_date}-{night.night_id}.json"
    try:
        write_object(uri, redacted_json(night.as_dict()))
    except StorageError as error:
        night.problems.append(f"the summary can't be written: {error}")
        return
    say(f"summary: {uri}")
    for each in night.results:
        if each.review:
            # Only now: a night that is killed before is told of by the next one.
            try:
                morning.mark_told(each.source.config.output, each.review, uri)
            except StorageError as error:
                night.problems.append(f"the next night tells of {each.source.name} again: {error}")
