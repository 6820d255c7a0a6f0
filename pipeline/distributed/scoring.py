"""The scoring graph: manifest → read → score → maps, then scores."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import ray
from ray.data import ActorPoolStrategy

from pipeline.calibration import Calibration, read_calibration
from pipeline.config import AUTO, ScoreConfig
from pipeline.identity import ModelIdentity
from pipeline.images import Decoder
from pipeline.inputs.manifest import Manifest, build_manifest
from pipeline.logs import bind
from pipeline.output.layout import CONFIG, MANIFEST, PAGE, REPORT, run_folder
from pipeline.output.ledger import IdSet, read_final_ids
from pipeline.output.lock import OutputLock
from pipeline.output.reference_catalogue import ReferencesError, ReferencesInUse, read_catalogue
from pipeline.output.writer import ResultWriter
from pipeline.redaction import redact
from pipeline.report import RunReport
from pipeline.report.page import write_run_page
from pipeline.storage import absolute, arrow_filesystem, write_object

from .cluster import quiet_data
from .errors import CannotRunError, explained
from .fingerprints import fingerprint, forget
from .metrics import ScanMetrics
from .reader import read_images
from .reading_log import start_reading_log
from .references.job import auto_references, auto_uri
from .resources import CPUS_PER_MANIFEST_READER, CPUS_PER_READER, Resources, node_cpus
from .scorer import AnomalyScorer

PROGRESS_INTERVAL_S = 10.0

Say = Callable[[str], None]


def score_bucket(
    config: ScoreConfig,
    say: Say = print,
    scorer: type = AnomalyScorer,
    source: str = "",
    run_id: str = "",
    page: bool = True,
) -> RunReport:
    """Score what the inputs hold and the output doesn't. Needs ``ray.init`` before.

    Everything that can be wrong with the configuration is found before a scorer starts. Whatever
    happens later, finished rows are written and report.json tells what was done.

    Args:
        config: the job's settings.
        say: receives the progress lines.
        scorer: the actor class; benchmarks put a stand-in of known speed here.
        source: name of the nightly scan; metrics and logs of other runs name the output.
        run_id: default: ``new_run_id()``.
        page: write the run's report.html at the end.

    Raises:
        CannotRunError: bad input, output, model or resources, or another run writes to the output;
            nothing was scored.
        LockLostError: another run took the output over; what was written before stays.
    """
    run_id = run_id or new_run_id()
    bind(run_id=run_id, source=source or absolute(config.output))
    lock = OutputLock(
        config.output, run_id=run_id, wait_s=config.lock_wait_s, say=say, needed=config.lock
    )
    with ExitStack() as held:
        with explained("the output can't be written"):
            held.enter_context(lock)
        return _score(config, say, scorer, source, run_id, lock, page)


def tell_page(config: ScoreConfig, run_id: str, say: Say, *, pictures: bool = True) -> str:
    """Write a run's report.html; returns why there is none, or ""."""
    folder = run_folder(config.output, run_id)
    problem = write_run_page(config.output, run_id, gallery=config.gallery if pictures else 0)
    say(f"report.html can't be written: {problem}" if problem else f"page: {folder}/{PAGE}")
    return problem


def new_run_id() -> str:
    """Sorts by time of start."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:6]}"


def _score(
    config: ScoreConfig,
    say: Say,
    scorer: type,
    source: str,
    run_id: str,
    lock: OutputLock,
    page: bool,
) -> RunReport:
    report = RunReport(run_id=run_id, settings=asdict(config), source=source)
    folder = run_folder(config.output, run_id)
    with explained("the output can't be written"):
        settings = redact(json.dumps(asdict(config), indent=2))
        write_object(f"{folder}/{CONFIG}", settings.encode())
    try:
        resources = Resources.plan(config, ray.cluster_resources(), node_cpus())
        say(f"run {run_id}: looking at the model")
        with _timed(report, "model"):
            model = fingerprint(config)
        with _timed(report, "references"):
            used = find_references(config, model, check=lock.check, say=say)
        report.model, report.references = model, used.identity(model).references
        report.references_uri = used.uri
        report.calibration = _calibration(config, report.model)
        if report.outdated:
            names = ", ".join(report.outdated)
            say(f"{names}: no threshold, for theirs are of other references; calibrate again")
        with _timed(report, "list"):
            manifest = _list(config, report, folder, say)
        say(report.start_line())
        if manifest.pending:
            with _timed(report, "run"):
                _run(config, resources, manifest, report, used, say, scorer, source, lock)
        report.message = report.too_many_errors(
            config.max_error_rate, count_known=config.count_known_errors
        )
        report.status = "too_many_errors" if report.message else "done"
    except BaseException as error:
        report.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        report.message = str(error)
        raise
    finally:
        write_object(f"{folder}/{REPORT}", report.to_json())
        if page:
            # Who interrupts a run waits for its end, so then no picture is read.
            pictures = report.status != "interrupted"
            report.page_problem = tell_page(config, run_id, say, pictures=pictures)
    return report


def scoring_graph(
    manifest: Manifest,
    resources: Resources,
    *,
    image_size: int,
    max_megapixels: float,
    decoder: Decoder = "exact",
    scorer: type,
    scorer_arguments: dict[str, Any],
) -> ray.data.Dataset:
    """The lazy dataset of scored rows (``schema.scored_schema``), in no fixed order."""
    read: Any = read_images  # Ray Data's annotations know no generator over Arrow tables
    rows = resources.rows_per_block(image_size, manifest.pending)
    filesystem, _ = arrow_filesystem(manifest.folder)
    paths = [arrow_filesystem(uri)[1] for uri in manifest.files]
    return (
        ray.data.read_parquet(paths, filesystem=filesystem, num_cpus=CPUS_PER_MANIFEST_READER)
        .repartition(target_num_rows_per_block=rows)
        .map_batches(
            read,
            fn_kwargs={
                "image_size": image_size,
                "max_megapixels": max_megapixels,
                "decoder": decoder,
                "log": start_reading_log(),
            },
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=CPUS_PER_READER,
        )
        .map_batches(
            scorer,
            fn_constructor_kwargs=scorer_arguments,
            batch_size=resources.batch_size,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=resources.num_actors),
            num_cpus=resources.claimed_cpus,
            num_gpus=resources.gpus_per_actor,
        )
    )


def _calibration(config: ScoreConfig, model: str) -> Calibration | None:
    if config.thresholds is None:
        return None
    with explained("--thresholds can't be used"):
        calibration = read_calibration(config.thresholds)
        calibration.check_model(model)
        calibration.values("score")
    return calibration


def find_references(
    config: ScoreConfig,
    model: str,
    *,
    check: Callable[[], None] | None = None,
    say: Say = lambda line: None,
) -> ReferencesInUse:
    """What a run compares images with; with ``--references auto``, made first where it is not yet.

    Args:
        config: the job's settings.
        model: of ``fingerprint``.
        check: called before writing; None = make nothing, take what is there.
        say: receives the progress lines.

    Raises:
        CannotRunError: there are no such references, or they are another model's.
    """
    if config.references is None:
        return ReferencesInUse()
    if config.references == AUTO:
        uri = auto_uri(config)
        if check is not None:
            catalogue = auto_references(config, model, check=check, say=say)
            return ReferencesInUse.of(uri, catalogue)
    else:
        uri = absolute(config.references)
    with explained("--references can't be used"):
        found = read_catalogue(uri)
        if config.references == AUTO:
            same_model = found is not None and found.model == model
            return ReferencesInUse.of(uri, found) if found and same_model else ReferencesInUse(uri)
        if found is None:
            raise ReferencesError(
                f"{uri} holds no references.json; make references with jobs/build_references.py, "
                "or give auto"
            )
        found.check_model(model, uri)
        return ReferencesInUse.of(uri, found)


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


def _list(config: ScoreConfig, report: RunReport, folder: str, say: Say) -> Manifest:
    last = time.monotonic()

    def on_progress(manifest: Manifest) -> None:
        nonlocal last
        if time.monotonic() - last > PROGRESS_INTERVAL_S:
            last = time.monotonic()
            say(f"listing: {manifest.listed:,} objects, {manifest.pending:,} to score")

    done = final_ids(config, report.identity)
    with explained("an input can't be listed"):
        manifest = build_manifest(
            config, report.identity, done, f"{folder}/{MANIFEST}", on_progress
        )
    for remark in manifest.remarks():
        say(remark)
    others = manifest.other_outputs.total()
    report.listed, report.excluded = manifest.listed, manifest.excluded + others
    report.skipped, report.pending = manifest.skipped, manifest.pending
    report.before = manifest.before
    nothing_new = config.since is not None and manifest.excluded
    if not (manifest.listed or nothing_new or config.allow_empty):
        left_out = f" (globs leave out {manifest.excluded:,})" if manifest.excluded else ""
        left_out += f" but {others:,} files of other outputs" if others else ""
        raise CannotRunError(
            f"there is no object below {', '.join(config.input)}{left_out}; check the prefix, or "
            "give --allow-empty if that may happen"
        )
    return manifest


def _run(
    config: ScoreConfig,
    resources: Resources,
    manifest: Manifest,
    report: RunReport,
    used: ReferencesInUse,
    say: Say,
    scorer: type,
    source: str,
    lock: OutputLock,
) -> None:
    context = quiet_data()
    context.use_datasource_v2 = False  # it starts 32 actors to look at a handful of small files
    context.actor_init_retry_on_errors = True  # a download that fails once is no reason to end
    writer = ResultWriter(
        output=absolute(config.output),
        scan_date=config.scan_date,
        run_id=report.run_id,
        identity=report.identity,
        write_maps=config.maps,
        interval_s=config.commit_interval_s,
        check=lock.check,
    )
    graph = scoring_graph(
        manifest,
        resources,
        image_size=config.image_size,
        max_megapixels=config.max_megapixels,
        decoder=config.decoder,
        scorer=scorer,
        scorer_arguments={
            "model_arguments": config.model_arguments,
            "fingerprint": report.model.removesuffix(config.decoder_suffix),
            "gpus": resources.gpus_per_actor,
            "num_threads": resources.cpus_per_actor + 1,  # the readers' CPU is mostly idle
            "references": used,
            "embeddings": config.embeddings,
        },
    )
    metrics = ScanMetrics(source or absolute(config.output), manifest.pending)
    try:
        with _progress(report, say):
            for rows in graph.iter_batches(batch_size=None, batch_format="pyarrow"):
                writer.add(rows)
                report.add(rows)
                metrics.add(rows)
    except ray.exceptions.RayError:
        forget(config)  # scorers refuse a model that is not the one of the fingerprint
        raise
    finally:
        writer.commit()
        report.map_bytes, report.score_bytes = writer.map_bytes, writer.score_bytes
        report.seconds["write"] = writer.seconds
    if report.num_done != manifest.pending:
        raise RuntimeError(f"{manifest.pending} images went in, {report.num_done} rows came out")


@contextmanager
def _progress(report: RunReport, say: Say) -> Iterator[None]:
    """Say how far the run is from time to time, also while nothing comes out."""
    started, stopped = time.monotonic(), threading.Event()

    def watch() -> None:
        while not stopped.wait(PROGRESS_INTERVAL_S):
            say(report.progress_line(time.monotonic() - started))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stopped.set()
        watcher.join()


@contextmanager
def _timed(report: RunReport, stage: str) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        report.seconds[stage] = time.monotonic() - started
