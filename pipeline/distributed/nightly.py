"""A night: every source scored, reviewed and told of, whatever happens to the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pipeline.config import ScoreConfig
from pipeline.errors import ExpectedError
from pipeline.identity import ModelIdentity
from pipeline.inputs.manifest import Manifest, pending_images
from pipeline.nightly import webhook
from pipeline.nightly.night import Night, Result, Status
from pipeline.nightly.rates import Rates, past_rates
from pipeline.nightly.reviewing import review_run
from pipeline.nightly.scans import Scans, Source
from pipeline.nightly.told import mark_told
from pipeline.output.compaction import compact, plan
from pipeline.output.layout import PAGE, REVIEW, run_folder
from pipeline.output.lock import OutputLock
from pipeline.output.run_files import read_run_file, write_run_file
from pipeline.publishing import publish
from pipeline.redaction import redact, redacted_json
from pipeline.storage import StorageError, absolute, write_object
from pipeline.terminal import clean, duration

from .errors import explained
from .fingerprints import fingerprint
from .references.in_use import find_references
from .scorer import AnomalyScorer
from .scoring import final_ids, new_run_id, score_bucket, tell_page

_log = logging.getLogger(__name__)

FIRST_KEYS = 5  # that a preview shows
FILES_WORTH_IT = 10  # fewer than so many files saved are left for another night


def run_night(scans: Scans, scan_date: str, scorer: type = AnomalyScorer) -> Night:
    """Score and review all sources, write the summary and tell the webhooks.

    A source that fails, for whatever reason, is noted and the next one begins.

    Args:
        scans: the sources; their scan date should be ``scan_date``.
        scan_date: the night's, YYYY-MM-DD.
        scorer: as of ``score_bucket``.

    Raises:
        KeyboardInterrupt: it was stopped; the summary is written all the same.
    """
    started, results, stopped = datetime.now(UTC), list[Result](), False
    try:
        for source in scans.sources:
            _log.info(f"source {source.name} ({len(results) + 1} / {len(scans.sources)})")
            results.append(_scan(source, scorer))
            if results[-1].status == "interrupted":
                raise KeyboardInterrupt
    except KeyboardInterrupt:  # also one between two sources, or while the page of one is made
        stopped = True
    results += [Result(source=source) for source in scans.sources[len(results) :]]
    night = Night(scan_date=scan_date, results=tuple(results), started=started)
    if not stopped:
        night = night.with_problems(_tell_webhooks(night))
        # Before they are made one: of files under the names that they were written with, the next
        # publication knows without opening them.
        night = night.with_problems(_published(night))
        night = night.with_problems(_tidied(night))
    night = night.with_problems(_write_summary(night, scans.summary))
    if stopped:
        raise KeyboardInterrupt
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


def _scan(source: Source, scorer: type) -> Result:
    """Score and review a source. What goes wrong, an interrupt too, is in the result."""
    result = Result(source=source, run_id=new_run_id())
    try:
        result, identity = _score(result, scorer)
        if identity is not None:
            result = _reviewed(result, identity)
        # After the review, whose thresholds it draws.
        return _with_page(result)
    except KeyboardInterrupt:
        stopped = replace(result, status="interrupted", message="interrupted")
        if result.report:
            return stopped
        return _with_page(replace(stopped, report=_report_of(result)), pictures=False)


def _score(result: Result, scorer: type) -> tuple[Result, ModelIdentity | None]:
    """The result, and the model of the run's rows; None if it failed."""
    source, run_id = result.source, result.run_id
    try:
        report = score_bucket(source.config, scorer, source.name, run_id, page=False)
    except Exception as error:
        message = _told(error)
        _log.error("failed: %s", clean(message, 500))
        return replace(result, status="failed", message=message, report=_report_of(result)), None
    status: Status = "done" if report.status == "done" else "too_many_errors"
    found = replace(result, status=status, message=redact(report.message), report=report.as_dict())
    return found, report.identity


def _reviewed(result: Result, identity: ModelIdentity) -> Result:
    config = result.source.config
    try:
        review = review_run(
            config.output,
            run_id=result.run_id,
            identity=identity,
            scan_date=config.scan_date,
            rule=result.source.alert,
        )
        result = replace(result, review=review)
        write_run_file(config.output, result.run_id, REVIEW, review.to_json())
    except Exception as error:
        message = "; ".join(filter(None, [result.message, f"review: {_told(error)}"]))
        return replace(result, status="not_reviewed", message=message)
    return result


def _report_of(result: Result) -> dict[str, Any]:
    """report.json of a run that raised; empty if it did not get that far."""
    with suppress(StorageError, ValueError):
        return read_run_file(result.source.config.output, result.run_id)
    return {}


def _with_page(result: Result, *, pictures: bool = True) -> Result:
    """With the run's report.html; a problem is noted in report.json, and is none of the source."""
    config = result.source.config
    if not result.report or tell_page(config, result.run_id, pictures=pictures):
        return result
    return replace(result, page=f"{run_folder(config.output, result.run_id)}/{PAGE}")


def _told(error: Exception) -> str:
    from ray.exceptions import RayError  # not above: a night with nothing new needs no Ray

    text = str(error).strip() or type(error).__name__
    if isinstance(error, RayError):
        text = text.splitlines()[-1]  # the cause; pages of traceback stand before it
    return redact(text)


def _published(night: Night) -> Iterator[str]:
    """Bring the sources' tables up to date; what went wrong. The next night catches up."""
    for each in night.results:
        if each.status in ("failed", "not_run"):
            continue
        for place in each.source.publish:
            try:
                done = publish(each.source.config.output, place)
                _log.info(f"{each.source.name}: {done.line()}")
            except Exception as error:  # whatever it is, the night is done
                yield f"{each.source.name} is not published: {_told(error)}"


def _tidied(night: Night) -> Iterator[str]:
    """Make one score file of the many of earlier dates, where that pays; what went wrong.

    A reader asks the store twice for each file, whatever is in it. Maps stay where they are, so
    that nothing is left over for a vacuum.
    """
    for each in night.results:
        config, output = each.source.config, absolute(each.source.config.output)
        if not each.source.compact or each.status in ("failed", "not_run"):
            continue
        try:
            groups = plan(output, before=night.scan_date, maps=False)
            if sum(len(group.files) - 1 for group in groups) < FILES_WORTH_IT:
                continue
            with OutputLock(config.output, run_id="compact", needed=config.lock) as lock:
                done = compact(output, before=night.scan_date, maps=False, check=lock.check)
            yield from (f"{each.source.name}: {failure}" for failure in done.failures)
        except (ExpectedError, StorageError, OSError, ValueError, pa.ArrowException) as error:
            yield f"{each.source.name} is not compacted: {redact(str(error))}"


def _tell_webhooks(night: Night) -> Iterator[str]:
    """One message for each webhook, about the sources that name it; what went wrong."""
    for url in dict.fromkeys(each.source.webhook for each in night.results):
        if url:
            told = night.of(url)
            try:
                webhook.post(url, {"text": told.headline()} | told.to_json())
            except webhook.WebhookError as error:
                yield str(error)


def _write_summary(night: Night, folder: str) -> Iterator[str]:
    """Write what all sources came to, and note that it tells of them; what went wrong."""
    uri = f"{absolute(folder)}/nightly/{night.scan_date}-{night.night_id}.json"
    try:
        write_object(uri, redacted_json(night.to_json()))
    except StorageError as error:
        yield f"the summary can't be written: {error}"
        return
    _log.info(f"summary: {uri}")
    for each in night.results:
        if each.review:
            # Only now: a night that is killed before is told of by the next one.
            try:
                mark_told(each.source.config.output, each.review, uri)
            except StorageError as error:
                yield f"the next night tells of {each.source.name} again: {error}"
