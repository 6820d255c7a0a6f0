"""The same work as Ray's guide to images does it: ``read_images``, an actor, ``write_parquet``.

No row for an image that fails (the first one ends the run), no map, no manifest, no going on: what
users would write first, beside the job.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy

from pipeline.distributed.cluster import connected, quiet_data
from pipeline.distributed.resources import CPUS_PER_READER
from pipeline.provenance import peak_memory_bytes
from pipeline.storage import arrow_filesystem

from .machine import BusyCPUs, in_own_process
from .photographs import make_photographs
from .whole_job import Case, folder_of

Batch = dict[str, NDArray[Any]]


class Scorer:
    """Answers at once."""

    def __call__(self, batch: Batch) -> Batch:
        """Paths and pixels → paths and scores."""
        return {"path": batch["path"], "score": np.full(len(batch["path"]), 0.5, np.float32)}


def run_read_images(case: Case) -> dict[str, Any]:
    """Do one run in this process, which has no Ray yet; rows are counted in what was written."""
    with (
        connected(case.address, num_cpus=case.num_cpus),
        folder_of(case.work) as folder,
    ):
        in_own_process(make_photographs, f"{folder}/images", case.num_images, case.photo_size)
        quiet_data()
        cpus, started = BusyCPUs(), time.monotonic()
        filesystem, path = arrow_filesystem(f"{folder}/images")
        side = case.job.image_size
        ray.data.read_images(
            path, filesystem=filesystem, mode="RGB", size=(side, side), include_paths=True
        ).map_batches(
            Scorer,
            batch_size=case.job.batch_size,
            compute=ActorPoolStrategy(size=case.job.num_actors or 1),
            num_cpus=CPUS_PER_READER,  # of a whole one, two cores would leave the readers none
        ).write_parquet(arrow_filesystem(f"{folder}/scores")[1], filesystem=filesystem)
        seconds, busy = time.monotonic() - started, cpus.share()
        scores = arrow_filesystem(f"{folder}/scores")[1]
        rows = ray.data.read_parquet(scores, filesystem=filesystem).count()
    return {
        "way": "read_images",
        "images": rows,
        "photo_size": case.photo_size,
        "seconds": {"run": round(seconds, 2)},
        "images_per_s": round(rows / seconds, 2),
        "ms_per_image": round(1e3 * seconds / rows, 3),
        "busy_cpus": busy,
        "peak_memory_bytes": {"driver": peak_memory_bytes()},
    }
