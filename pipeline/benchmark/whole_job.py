"""The scoring job as users run it, on generated images: with the model, or with a stand-in."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pipeline
from pipeline.config import NONE, BenchmarkConfig, ModelConfig, ScoreConfig, is_local
from pipeline.distributed.cluster import connected, num_nodes, watched_object_stores
from pipeline.distributed.scorer import AnomalyScorer
from pipeline.distributed.scoring import score_bucket
from pipeline.errors import CannotRunError
from pipeline.provenance import peak_memory_bytes
from pipeline.report import RunReport
from pipeline.storage import absolute

from .machine import BusyCPUs, in_own_process
from .photographs import make_photographs
from .stand_in import StandInScorer, scorer_of_known_speed

_log = logging.getLogger(__name__)

# Model of the runs whose scorer is a stand-in: only its fingerprint is asked for.
TINY = str(Path(pipeline.__file__).parent / "models" / "tiny_clip.json")
JOB_IMAGES = 64
AGAIN_IMAGES = 1_000
SCORER_RATES = (10.0, 30.0, 100.0, 300.0, 1_000.0)
FEEDING_S = 30.0  # of the scorer's time
FEEDING_IMAGES = (256, 12_000)  # at least two blocks; at most what a small disk takes
PHOTO = 1_024
CPUS_EXHAUSTED = 0.9  # share of the machine's CPU time; the rest is lost between processes
ENOUGH = 0.95  # share of a scorer's own rate that the pipeline shall keep


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run of the job."""

    job: ScoreConfig
    photo_size: int
    num_images: int
    address: str | None
    num_cpus: int | None
    work: str | None
    scorer_rate: float | None = None
    """Images/s of each scorer; inf = answers at once, None = the real model."""
    simulated_gpus: int = 0
    run_again: bool = False
    """Run twice more on the same Ray: with nothing to do, and with a few images."""


def measure_job(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """The whole job with the model."""
    return [
        measured(make_case(config, count, size))
        for size in config.photo_size or (PHOTO,)
        for count in config.num_images or (JOB_IMAGES,)
    ]


def measure_feeding(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """The whole job with scorers of known speed, and the share of that speed which it keeps."""
    results = []
    for size in config.photo_size or (PHOTO,):
        for num_actors in config.num_actors or (1,):
            for rate in config.scorer_rate or SCORER_RATES:
                least, most = FEEDING_IMAGES
                wanted = int(rate * num_actors * FEEDING_S)
                count = (config.num_images or (min(max(wanted, least), most),))[0]
                case = make_case(config, count, size, num_actors=num_actors)
                if is_local(config.address):
                    gpus = replace(case.job, gpus_per_actor=1.0)
                    case = replace(case, simulated_gpus=num_actors, job=gpus)
                result = measured(with_stand_in(case, rate))
                results.append(result | kept(result, rate))
    return results


def kept(result: dict[str, Any], scorer_rate: float) -> dict[str, Any]:
    """What a run kept of its scorers' own rate, and what held it back.

    Args:
        result: of one run.
        scorer_rate: images/s of each scorer, if it never waits.
    """
    bare_rate = scorer_rate * result["num_actors"]
    # The stand-ins' seconds run from their first batch to their last.
    share = result["images"] / scorer_rate / result["seconds"]["score"]
    if share >= ENOUGH:
        limit = "scorer"
    elif result["busy_cpus"] is not None and result["busy_cpus"] >= CPUS_EXHAUSTED:
        limit = "CPUs"
    else:
        limit = "neither scorer nor CPUs"
    return {
        "bare_images_per_s": bare_rate,
        "share_of_bare": round(result["images_per_s"] / bare_rate, 3),
        "steady_share_of_bare": round(share, 3),
        "limited_by": limit,
    }


def make_case(config: BenchmarkConfig, count: int, photo_size: int, **changes: Any) -> Case:
    same = [each.name for each in fields(ModelConfig)]
    same += ["checkpoint", "precision", "decoder", "gpus_per_actor"]
    settings = {name: getattr(config, name) for name in same}
    for name in ("batch_size", "num_actors"):
        if series := getattr(config, name):
            settings[name] = series[0]
    # Replaced where it runs: temporary folders belong to the process that measures.
    places = {"input": ("images",), "output": "scores"}
    return Case(
        job=ScoreConfig(**(settings | places | changes)),
        photo_size=photo_size,
        num_images=count,
        address=config.address,
        num_cpus=config.num_cpus,
        work=config.work,
    )


def with_stand_in(case: Case, rate: float) -> Case:
    """The case with a scorer of known speed instead of the model."""
    tiny = {"backbone": TINY, "backbone_weights": NONE, "checkpoint": NONE}
    settings: dict[str, Any] = {"precision": "fp32", **tiny}
    return replace(case, job=replace(case.job, **settings), scorer_rate=rate)


def measured(case: Case) -> dict[str, Any]:
    """One run, in a process of its own."""
    speed = "" if case.scorer_rate is None else f", scorer of {case.scorer_rate:g} images/s"
    _log.info(f"{case.num_images:,} images of {case.photo_size} px{speed}")
    return in_own_process(run_case, case)


def run_case(case: Case) -> dict[str, Any]:
    """Do one run in this process, which has no Ray yet.

    Raises:
        CannotRunError: the cluster's nodes can't reach a temporary folder, or as the job does.
    """
    with (
        connected(case.address, num_cpus=case.num_cpus, simulated_gpus=case.simulated_gpus),
        folder_of(case.work) as folder,
    ):
        # Elsewhere: what is counted as the driver's memory is the job's.
        in_own_process(make_photographs, f"{folder}/images", case.num_images, case.photo_size)
        job = replace(case.job, input=(f"{folder}/images",), output=f"{folder}/scores")
        scorer: type = AnomalyScorer
        if case.scorer_rate is not None:
            timed = case.scorer_rate < float("inf")
            scorer = scorer_of_known_speed(case.scorer_rate) if timed else StandInScorer
        before, cpus = peak_memory_bytes(), BusyCPUs()
        with watched_object_stores() as stores:
            report = score_bucket(job, scorer)
        busy = cpus.share()
        again = score_bucket(job, scorer) if case.run_again else None
        few = replace(job, output=f"{folder}/few", limit=AGAIN_IMAGES)
        warm = score_bucket(few, scorer) if case.run_again else None
    if report.scored != case.num_images:
        raise CannotRunError(f"{report.num_errors} images failed: {dict(report.errors)}")
    result = _result(case, report) | {
        "busy_cpus": busy,
        "peak_memory_bytes": {
            "driver": peak_memory_bytes(),
            "driver_before": before,
            "scorer": report.scorer_memory,
            "object_stores": stores.peak_bytes,
        },
        "spilled_bytes": stores.spilled_bytes,
    }
    if again is not None and warm is not None:
        result["list_again_s"] = round(again.seconds["list"], 3)
        result["first_rows_again_s"] = _first_rows_s(warm)
    return result


def _result(case: Case, report: RunReport) -> dict[str, Any]:
    data = report.as_dict()
    run_s, count = report.seconds["run"], report.num_done
    return {
        "way": "job",
        "images": count,
        "photo_size": case.photo_size,
        "image_size": case.job.image_size,
        "decoder": case.job.decoder,
        "num_actors": case.job.num_actors or 1,
        "images_per_s": round(count / run_s, 2),
        "steady_images_per_s": report.steady_rate,
        "ms_per_image": round(1e3 * run_s / count, 3),
        "first_rows_s": _first_rows_s(report),
        "seconds": data["seconds"],
        "read_ms_per_image": round(1e3 * report.seconds["decode"] / count, 2),
        "bytes_per_image": data["bytes"]["per_image"],
    }


def _first_rows_s(report: RunReport) -> float | None:
    """Seconds from the start of a job until its first rows reached the driver."""
    return None if report.first_rows is None else round(report.first_rows[0] - report.started, 2)


@contextmanager
def folder_of(work: str | None) -> Iterator[str]:
    """A new place for images and results.

    Raises:
        CannotRunError: it would be a disk that other nodes don't see.
    """
    if work is not None:
        # Left behind on purpose: what a user names, a benchmark doesn't delete from.
        yield f"{absolute(work)}/benchmark-{uuid4().hex[:8]}"
        return
    if num_nodes() > 1:
        raise CannotRunError(
            "the cluster has several nodes; give --work a folder that all of them reach, such as "
            "s3://bucket/benchmark"
        )
    with tempfile.TemporaryDirectory() as folder:
        yield folder
