"""The scoring job: model → references → manifest → scored rows → maps, then scores.

Ray starts when something is to be computed: a night over an unchanged bucket never needs it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from uuid import uuid4

from pipeline.allocator import give_back
from pipeline.calibration import Calibration, read_calibration
from pipeline.config import ScoreConfig
from pipeline.errors import CannotRunError
from pipeline.identity import ModelIdentity
from pipeline.inputs.manifest import Manifest, build_manifest, holds_anything
from pipeline.logs import bind
from pipeline.output.layout import CONFIG, MANIFEST, PAGE, REPORT, run_folder
from pipeline.output.ledger import IdSet, read_final_ids
from pipeline.output.lock import LOCK_NAME, OutputLock
from pipeline.output.reference_catalogue import ReferencesInUse
from pipeline.output.writer import ResultWriter
from pipeline.redaction import redact
from pipeline.report import RunReport
from pipeline.report.page import write_run_page
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, absolute, stat, write_object
from pipeline.terminal import PROGRESS_INTERVAL_S

from .errors import explained
from .fingerprints import fingerprint
from .references.in_use import find_references
from .scorer import AnomalyScorer

_log = logging.getLogger(__name__)


def score_bucket(
    config: ScoreConfig,
    scorer: type = AnomalyScorer,
    source: str = "",
    run_id: str = "",
    page: bool = True,
) -> RunReport:
    """Score what the inputs hold and the output doesn't.

    Everything that can be wrong with the configuration is found before a scorer starts. Whatever
    happens later, finished rows are written and report.json tells what was done.

    Args:
        config: the job's settings.
        scorer: the actor class; benchmarks put a stand-in of known speed here.
        source: name of the nightly scan; metrics and logs of other runs name the output.
        run_id: default: ``new_run_id()``.
        page: write the run's report.html at the end.

    Raises:
        CannotRunError: bad input, output, model or resources, or another run writes to the output;
            nothing was scored.
        LockLostError: another run took the output over; what was written before stays.
    """
    _refuse_nothing(config)
    run_id = run_id or new_run_id()
    bind(run_id=run_id, source=source or absolute(config.output))
    lock = OutputLock(config.output, run_id=run_id, wait_s=config.lock_wait_s, needed=config.lock)
    with ExitStack() as held:
        with explained("the output can't be written"):
            held.enter_context(lock)
        return _Run(config, run_id, source, lock).score(scorer, page=page)


def _refuse_nothing(config: ScoreConfig) -> None:
    """A first run with a mistyped input leaves no output behind.

    Raises:
        CannotRunError: the output is new, and there is no object to score.
    """
    if config.allow_empty or config.since is not None or not _is_new(config.output):
        return
    with explained("an input can't be listed"):
        if not holds_anything(config):
            raise _nothing(config)


def _is_new(output: str) -> bool:
    try:
        stat(f"{absolute(output)}/{LOCK_NAME}")
    except StorageError as error:
        return error.code == ErrorCode.NOT_FOUND
    return False


def _nothing(config: ScoreConfig, left_out: str = "") -> CannotRunError:
    return CannotRunError(
        f"there is no object below {', '.join(config.input)}{left_out}; check the prefix, or give "
        "--allow-empty if that may happen"
    )


def tell_page(config: ScoreConfig, run_id: str, *, pictures: bool = True) -> str:
    """Write a run's report.html; returns why there is none, or ""."""
    problem = write_run_page(config.output, run_id, gallery=config.gallery if pictures else 0)
    if problem:
        _log.warning(f"report.html can't be written: {problem}")
    return problem


def new_run_id() -> str:
    """Sorts by time of start."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:6]}"


class _Run:
    """One run, while it holds the output."""

    def __init__(self, config: ScoreConfig, run_id: str, source: str, lock: OutputLock) -> None:
        self._config = config
        self._output = absolute(config.output)
        self._folder = run_folder(config.output, run_id)
        self._lock = lock
        self._report = RunReport(run_id=run_id, settings=asdict(config), source=source)

    def score(self, scorer: type, *, page: bool) -> RunReport:
        """Do it; report.json, and the page, tell of it however it ends."""
        config, report = self._config, self._report
        with explained("the output can't be written"):
            settings = redact(json.dumps(report.settings, indent=2))
            write_object(f"{self._folder}/{CONFIG}", settings.encode())
        try:
            references = self._know_the_model()
            with self._timed("list"):
                manifest = self._list()
                give_back()
            _log.info(report.start_line())
            if manifest.pending:
                self._score_pending(manifest, references, scorer)
            report.message = report.too_many_errors(
                config.max_error_rate, count_known=config.count_known_errors
            )
            report.status = "too_many_errors" if report.message else "done"
        except BaseException as error:
            report.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            report.message = str(error)
            raise
        finally:
            write_object(f"{self._folder}/{REPORT}", report.to_json())
            if page:
                # Who interrupts a run waits for its end, so then no picture is read.
                pictures = report.status != "interrupted"
                report.page_problem = tell_page(config, report.run_id, pictures=pictures)
                if report.status in ("interrupted", "failed") and not report.page_problem:
                    _log.info(f"page: {self._folder}/{PAGE}")
        return report

    def _know_the_model(self) -> ReferencesInUse:
        """Name the model, find its references and thresholds."""
        config, report = self._config, self._report
        _log.info(f"run {report.run_id}: looking at the model")
        with self._timed("model"):
            report.model = fingerprint(config)
        with self._timed("references"):
            used = find_references(config, report.model, check=self._lock.check)
        report.references, report.references_uri = used.identity(report.model).references, used.uri
        report.calibration = _calibration(config, report.model)
        if report.outdated:
            names = ", ".join(report.outdated)
            _log.warning(
                f"{names}: no threshold, for theirs are of other references; calibrate again"
            )
        return used

    def _list(self) -> Manifest:
        config, report = self._config, self._report
        last = time.monotonic()

        def on_progress(manifest: Manifest) -> None:
            nonlocal last
            if time.monotonic() - last > PROGRESS_INTERVAL_S:
                last = time.monotonic()
                _log.info(f"listing: {manifest.listed:,} objects, {manifest.pending:,} to score")

        done, folder = final_ids(config, report.identity), f"{self._folder}/{MANIFEST}"
        with explained("an input can't be listed"):
            manifest = build_manifest(config, report.identity, done, folder, on_progress)
        for remark in manifest.remarks():
            _log.warning(remark)
        for line in manifest.summary():
            _log.info(line)
        others = manifest.other_outputs.total()
        report.listed, report.excluded = manifest.listed, manifest.excluded + others
        report.skipped, report.pending = manifest.skipped, manifest.pending
        report.before = manifest.before
        nothing_new = config.since is not None and manifest.excluded
        if not (manifest.listed or nothing_new or config.allow_empty):
            left_out = f" (globs leave out {manifest.excluded:,})" if manifest.excluded else ""
            left_out += f" but {others:,} files of other outputs" if others else ""
            raise _nothing(config, left_out)
        return manifest

    def _score_pending(self, manifest: Manifest, references: ReferencesInUse, scorer: type) -> None:
        from .cluster import planned  # not above: these import Ray
        from .graph import scored_rows
        from .metrics import ScanMetrics

        config, report = self._config, self._report
        with self._timed("start"):
            resources = planned(config)
        writer = ResultWriter(
            output=self._output,
            scan_date=config.scan_date,
            run_id=report.run_id,
            identity=report.identity,
            write_maps=config.maps,
            interval_s=config.commit_interval_s,
            check=self._lock.check,
        )
        metrics = ScanMetrics(report.source or self._output, manifest.pending)
        found = scored_rows(
            config, manifest, resources, scorer=scorer, model=report.model, references=references
        )
        try:
            with self._timed("run"), self._progress():
                for rows in found:
                    writer.add(rows)
                    report.add(rows)
                    metrics.add(rows)
        finally:
            writer.commit()
            report.map_bytes, report.score_bytes = writer.map_bytes, writer.score_bytes
            report.seconds["write"] = writer.seconds
        for remark in report.remarks():
            _log.warning(remark)
        if report.num_done != manifest.pending:
            raise RuntimeError(f"{manifest.pending} images went in, {report.num_done} came out")

    @contextmanager
    def _progress(self) -> Iterator[None]:
        """Say how far the run is from time to time, also while nothing comes out."""
        started, stopped = time.monotonic(), threading.Event()

        def watch() -> None:
            while not stopped.wait(PROGRESS_INTERVAL_S):
                _log.info(self._report.progress_line(time.monotonic() - started))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stopped.set()
            watcher.join()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self._report.seconds[stage] = time.monotonic() - started


def _calibration(config: ScoreConfig, model: str) -> Calibration | None:
    if config.thresholds is None:
        return None
    with explained("--thresholds can't be used"):
        calibration = read_calibration(config.thresholds)
        calibration.check_model(model)
        calibration.values("score")
    return calibration


def final_ids(config: ScoreConfig, identity: ModelIdentity) -> IdSet:
    """The ledger, or nothing if all is to be scored again.

    Raises:
        CannotRunError: the score table can't be read.
    """
    if config.rescore:
        return IdSet()
    with explained("the score table of the output can't be read"):
        output = absolute(config.output)
        return read_final_ids(
            output,
            identity,
            max_megapixels=config.max_megapixels,
            scan_date=config.scan_date,
        )
