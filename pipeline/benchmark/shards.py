"""Images in tar shards beside the same images as objects, and beside Ray's own reader of shards.

Each is read in a process of its own, one after the other: listed, fetched, decoded, and written
with a scorer that answers at once. One image in a thousand is cut short.
"""

from __future__ import annotations

import io
import logging
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

import ray

from pipeline.config import BenchmarkConfig
from pipeline.distributed.cluster import connected, quiet_data
from pipeline.distributed.scoring import score_bucket
from pipeline.images import ImageError, decode, to_square
from pipeline.storage import absolute, arrow_filesystem, write_object

from .machine import BusyCPUs, in_own_process
from .overhead import OVERHEAD_PHOTO, OVERHEAD_SIDE
from .photographs import DISTINCT, UPLOADS, encoded, photograph
from .stand_in import StandInScorer
from .whole_job import Case, make_case, with_stand_in

_log = logging.getLogger(__name__)

SHARD_IMAGES = 2_000
COUNTS = (2_000, 20_000)
DAMAGED_EVERY = 1_000
BATCH = 256  # blocks of 512 small images: what Ray takes for each block hides nothing then


def measure_shards(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """Rows of ``read_as`` for each number of images."""
    results = []
    for size in config.photo_size or (OVERHEAD_PHOTO,):
        for count in config.num_images or COUNTS:
            batch = (config.batch_size or (BATCH,))[0]
            job = {"image_size": OVERHEAD_SIDE, "batch_size": batch}
            case = with_stand_in(make_case(config, count, size, **job), float("inf"))
            with _folder(config.work) as folder:
                _log.info(f"{count:,} images of {size} px: made in {folder}")
                shards = make_images(folder, count, size)
                for name in ("objects", "shards"):
                    _log.info(f"{count:,} images of {size} px: {name}")
                    found = in_own_process(run_job, case, folder, f"{folder}/{name}")
                    results.append({"read_as": name} | found)
                _log.info(f"{count:,} images of {size} px: read_webdataset")
                found = in_own_process(run_webdataset, case, shards)
                results.append({"read_as": "read_webdataset"} | found)
    return results


def make_images(folder: str, count: int, size: int) -> list[str]:
    """The same JPEGs below ``objects`` and in tars below ``shards``.

    Returns:
        The URIs of the tars.
    """
    originals = [encoded(photograph(i, size)) for i in range(DISTINCT)]

    def data(i: int) -> bytes:
        original = originals[i % DISTINCT]
        return original if (i + 1) % DAMAGED_EVERY else original[: len(original) // 2]

    def name(i: int) -> str:
        return f"{i // SHARD_IMAGES:05d}/{i:08d}.jpg"

    def put(i: int) -> None:
        write_object(f"{folder}/objects/{name(i)}", data(i))

    with ThreadPoolExecutor(UPLOADS) as pool:
        list(pool.map(put, range(count)))
    shards = []
    for start in range(0, count, SHARD_IMAGES):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for i in range(start, min(start + SHARD_IMAGES, count)):
                header = tarfile.TarInfo(name(i))
                header.size = len(data(i))
                tar.addfile(header, io.BytesIO(data(i)))
        shards.append(f"{folder}/shards/{start // SHARD_IMAGES:05d}.tar")
        write_object(shards[-1], buffer.getvalue())
    return shards


def run_job(case: Case, folder: str, source: str) -> dict[str, Any]:
    """The scoring job over a folder, in this process, which has no Ray yet."""
    output = f"{folder}/scores-{uuid4().hex[:8]}"
    job = replace(case.job, input=(source,), output=output, max_error_rate=1.0)
    with connected(case.address, num_cpus=case.num_cpus):
        cpus, started = BusyCPUs(), time.monotonic()
        report = score_bucket(job, StandInScorer, page=False)
        seconds, busy = time.monotonic() - started, cpus.share()
    return _result(case, report.scored, sum(report.errors.values()), seconds, busy) | {
        "list_s": round(report.seconds["list"], 2),
        "steady_images_per_s": report.steady_rate,
        "read_ms_per_image": round(1e3 * report.seconds["decode"] / case.num_images, 2),
    }


def run_webdataset(case: Case, shards: list[str]) -> dict[str, Any]:
    """``ray.data.read_webdataset`` and a plain map to the same pixels, in this process."""
    filesystem, _ = arrow_filesystem(shards[0])
    paths = [arrow_filesystem(uri)[1] for uri in shards]
    with connected(case.address, num_cpus=case.num_cpus):
        quiet_data()
        cpus, started = BusyCPUs(), time.monotonic()
        samples = ray.data.read_webdataset(paths, filesystem=filesystem, decoder=None)
        square = partial(_square, size=case.job.image_size)
        rows = failed = first_rows = 0
        first = started
        found: Any = samples.map(square).iter_batches(batch_size=None, batch_format="pyarrow")
        for batch in found:
            rows += len(batch)
            failed += batch["pixels"].null_count
            if not first_rows:
                first, first_rows = time.monotonic(), rows
        seconds, busy = time.monotonic() - started, cpus.share()
        steady_s = time.monotonic() - first
    steady = {"steady_images_per_s": (rows - first_rows) / steady_s} if rows > first_rows else {}
    return _result(case, rows - failed, failed, seconds, busy) | steady


def _square(sample: dict[str, Any], size: int) -> dict[str, Any]:
    """What users write who read shards with Ray: pixels, or none and no reason."""
    try:
        pixels = to_square(decode(sample["jpg"]), size).pixels.tobytes()
    except ImageError:
        pixels = None
    return {"key": sample["__key__"], "pixels": pixels}


def _result(
    case: Case, scored: int, errors: int, seconds: float, busy: float | None
) -> dict[str, Any]:
    return {
        "images": case.num_images,
        "photo_size": case.photo_size,
        "rows": scored + errors,
        "scored": scored,
        "errors": errors,
        "seconds": round(seconds, 2),
        "images_per_s": round((scored + errors) / seconds, 1),
        "busy_cpus": busy,
    }


@contextmanager
def _folder(work: str | None) -> Iterator[str]:
    if work is not None:
        yield f"{absolute(work)}/benchmark-{uuid4().hex[:8]}"  # left behind: it is the user's place
        return
    with tempfile.TemporaryDirectory() as folder:
        yield absolute(folder)
