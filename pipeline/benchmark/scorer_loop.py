"""What is around a forward pass: how long the device waits, and the CPU cores that feed it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from torch.profiler import ProfilerActivity, profile

from pipeline.config import BenchmarkConfig
from pipeline.distributed.graph import SCORER_THREADS
from pipeline.distributed.predictor import Predictor
from pipeline.distributed.reader import read_images
from pipeline.distributed.scorer import AnomalyScorer
from pipeline.models import AdaCLIP
from pipeline.schema import MANIFEST_SCHEMA, pixel_schema
from pipeline.storage import absolute, list_objects

from .photographs import make_photographs
from .timing import rounded

READ_IMAGES = 32
CORES = (2, 4, 8, 16, 32, 64)
COPIES = ("Memcpy", "Memset")  # what CUPTI calls events in which the device computes nothing

Interval = tuple[float, float]


class _LoadedPredictor(Predictor):
    def __init__(self, model: AdaCLIP) -> None:
        self.model, self._embeddings = model, False
        self._set_up(model.device, model.settings.image_size, None)


class LoadedScorer(AnomalyScorer):
    """An ``AnomalyScorer`` around a model that is there already."""

    def __init__(self, model: AdaCLIP, config: BenchmarkConfig) -> None:
        self._loaded = model
        super().__init__(config.model_spec, fingerprint="", gpus=0, num_threads=1)

    def _load(self, *_: Any, **__: Any) -> Predictor:
        return _LoadedPredictor(self._loaded)


def measure_scorer(
    model: AdaCLIP, config: BenchmarkConfig, *, batch_size: int, batches: int
) -> dict[str, Any]:
    """The scorer as Ray Data calls it, with batches that wait in memory.

    Returns:
        ``images_per_s``; ``cpu_s_per_image`` of this process, the device's own where that is a
        CPU; ``device_idle``: share of the time from the first kernel to the last in which the
        device computed nothing, None for a CPU, of which nobody can tell what it did for whom.
    """
    scorer = LoadedScorer(model, config)
    tables = [_noise(batch_size, model.settings.image_size)] * batches
    scorer(tables[0])

    def score_all() -> None:
        with ThreadPoolExecutor(SCORER_THREADS) as threads:
            list(threads.map(scorer, tables))

    wall, cpu = time.perf_counter(), time.process_time()
    score_all()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    idle = None
    if model.device.type == "cuda":
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
            score_all()
        idle = rounded(idle_share(_kernels(profiler)))
    count = batch_size * batches
    return {
        "images_per_s": rounded(count / wall),
        "cpu_s_per_image": rounded(cpu / count),
        "device_idle": idle,
    }


def _noise(batch_size: int, size: int) -> pa.Table:
    pixels = np.random.default_rng(0).integers(
        256, size=(batch_size, size * size * 3), dtype=np.uint8
    )
    rows = [
        {
            "image_id": f"{i:032x}",
            "uri": f"file:///{i}.jpg",
            "etag": "",
            "category": "metal nut",
            "width": size,
            "height": size,
            "frames": 1,
            "pixels": each.tobytes(),
            "fetch_s": 0.0,
            "decode_s": 0.0,
            "tile": 0,
        }
        for i, each in enumerate(pixels)
    ]
    return pa.Table.from_pylist(rows, schema=pixel_schema(size))


def _kernels(profiler: profile) -> list[Interval]:
    """When the device computed, in microseconds."""
    return [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA" and not event.name.startswith(COPIES)
    ]


def idle_share(busy: Iterable[Interval]) -> float:
    """Share of the time between the first start and the last end in which nothing was busy.

    Args:
        busy: starts and ends, which may overlap.

    Raises:
        ValueError: there is none.
    """
    ordered = sorted(busy)
    if not ordered:
        raise ValueError("no interval: the device computed nothing")
    first, until = ordered[0]
    idle = 0.0
    for start, end in ordered:
        idle += max(0.0, start - until)
        until = max(until, end)
    return idle / (until - first) if until > first else 0.0


def measure_reading(config: BenchmarkConfig, photo_size: int) -> dict[str, Any]:
    """CPU seconds of a reader for each generated photograph on a local disk."""
    size = config.model_spec.image_size
    with tempfile.TemporaryDirectory() as folder:
        make_photographs(folder, READ_IMAGES, photo_size)
        found = [each for page in list_objects(absolute(folder)) for each in page]
        rows = [
            {"image_id": f"{i:032x}", "uri": each.uri, "etag": each.etag, "size": each.size}
            for i, each in enumerate(found)
        ]
        table = pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)
        started = time.process_time()
        parts = read_images(table, image_size=size, max_megapixels=1e6, decoder=config.decoder)
        count = sum(part["error"].null_count for part in parts)
        seconds = time.process_time() - started
    if count != READ_IMAGES:
        raise RuntimeError(f"of {READ_IMAGES} photographs {count} could be read")
    return {"photo_size": photo_size, "cpu_s_per_image": rounded(seconds / count)}


def by_cores(
    cpu_s_per_image: float, device_images_per_s: float | None, cores: Sequence[int] = CORES
) -> list[dict[str, Any]]:
    """Images/s of one device by the CPU cores that there are for each.

    Args:
        cpu_s_per_image: reading, and what the scorer does on the host.
        device_images_per_s: None where it is not known: what the cores read.
    """
    rows = []
    for count in cores:
        fed = count / cpu_s_per_image
        limited = device_images_per_s is not None and fed > device_images_per_s
        rate = device_images_per_s if limited else fed
        rows.append(
            {
                "cores": count,
                "images_per_s": rounded(rate or 0.0),
                "limited_by": "device" if limited else "cores",
            }
        )
    return rows
