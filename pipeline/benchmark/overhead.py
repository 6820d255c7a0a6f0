"""What the pipeline itself costs: the whole job with a scorer that answers at once.

Beside it, in the same run, the same images by Ray's own means.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from pipeline.config import BenchmarkConfig

from .machine import in_own_process
from .read_images import run_read_images
from .whole_job import make_case, measured, with_stand_in

_log = logging.getLogger(__name__)

OVERHEAD_IMAGES = (1_000, 10_000)
OVERHEAD_SIDE = 70  # small images and photographs, so that decoding does not hide what is measured
OVERHEAD_PHOTO = 128
# Two batches a block on CPUs: blocks of 512 rows, as GPUs get of images that small.
OVERHEAD_BATCH = 256


def measure_overhead(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """For each number of images the job, and ``read_images``; ``times`` is the ratio of both."""
    job = {"image_size": OVERHEAD_SIDE, "batch_size": OVERHEAD_BATCH}
    results = []
    for size in config.photo_size or (OVERHEAD_PHOTO,):
        for count in config.num_images or OVERHEAD_IMAGES:
            case = with_stand_in(make_case(config, count, size, **job), float("inf"))
            ours = measured(replace(case, run_again=True))
            _log.info(f"{count:,} images of {size} px, read_images")
            peer = in_own_process(run_read_images, case)
            times = peer["seconds"]["run"] / ours["seconds"]["run"]
            results += [ours, peer | {"times": round(times, 2)}]
    return results
