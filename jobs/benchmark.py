"""What the pipeline itself costs: time per image and driver memory against the number of objects.

``python -m jobs.benchmark --counts 1000 --counts 10000 --counts 100000 --output result.json``

The real job runs on a folder of small generated photographs, but with a stand-in for the model
that answers at once, so that what remains is listing, ledger, reading, Ray and writing. Every
count runs in a process of its own, because peak memory is a process's.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import tyro

from pipeline.config import NONE, ScoreConfig
from pipeline.datasets.synthetic import CATEGORIES, generate
from pipeline.distributed.scoring import score_bucket
from pipeline.report.summary import peak_memory_bytes, versions
from pipeline.schema import scored_schema

LINKS_PER_FILE = 1_000  # objects share files: hard links keep 100,000 photographs on a small disk
PATCH_SIZE = 14
BATCH_SIZE = 64  # two batches a block on CPUs: blocks of 128 rows, as the GPU defaults make


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Measure the pipeline without the model."""

    counts: tuple[int, ...] = ()
    """Number of objects. Repeat for a series. Default: 1000 and 10000."""
    image_size: int = 70
    """Side to which images are resized. Small, so that decoding does not hide what is measured."""
    num_cpus: int = 2
    """CPUs of the local Ray."""
    output: Path | None = None
    """Where the JSON goes. Default: standard output."""


class StandInScorer:
    """An ``AnomalyScorer`` without a model: a flat map for every image."""

    def __init__(self, model_arguments: dict[str, Any], **_: Any) -> None:
        self._grid_size = model_arguments["image_size"] // PATCH_SIZE
        self._grid = np.zeros(self._grid_size**2, dtype=np.float16)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """``schema.pixel_schema`` → ``schema.scored_schema``."""
        size, memory = self._grid_size, peak_memory_bytes()
        scored = {"score": 0.5, "map_max": 0.5, "anomalous_area": 0.0, "score_s": 0.0}
        grid = {"logit_grid": self._grid, "grid_height": size, "grid_width": size}
        rows = batch.drop_columns(["pixels"]).to_pylist()
        filled = [row | scored | grid | {"scorer_memory": memory} for row in rows]
        return pa.Table.from_pylist(filled, schema=scored_schema())


def main() -> None:
    """Run every count and write the JSON."""
    config = tyro.cli(BenchmarkConfig, config=(tyro.conf.UseAppendAction,))
    counts = config.counts or (1_000, 10_000)
    if len(counts) == 1:
        results = [measure(counts[0], config)]
    else:
        results = [in_own_process(count, config) for count in counts]
    document = {
        "benchmark": "pipeline without the model",
        "hardware": hardware(),
        "versions": versions(),
        "settings": {
            "image_size": config.image_size,
            "num_cpus": config.num_cpus,
            "batch_size": BATCH_SIZE,
        },
        "results": results,
    }
    text = json.dumps(document, indent=2)
    if config.output:
        config.output.parent.mkdir(parents=True, exist_ok=True)
        config.output.write_text(text + "\n")
    else:
        print(text)


def in_own_process(count: int, config: BenchmarkConfig) -> dict[str, Any]:
    """Measure one count in a fresh interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.json"
        command = [sys.executable, "-m", "jobs.benchmark", f"--counts={count}"]
        command += [f"--image-size={config.image_size}", f"--num-cpus={config.num_cpus}"]
        subprocess.run([*command, f"--output={output}"], check=True)
        result: dict[str, Any] = json.loads(output.read_text())["results"][0]
        return result


def measure(count: int, config: BenchmarkConfig) -> dict[str, Any]:
    """Score ``count`` objects with the stand-in, then once more, when there is nothing to do."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        make_images(images, count)
        job = ScoreConfig(
            input=(str(images),),
            output=str(Path(folder) / "scores"),
            backbone="pipeline/models/tiny_clip.json",
            backbone_weights=NONE,
            checkpoint=NONE,
            image_size=config.image_size,
            batch_size=BATCH_SIZE,
        )
        ray.init(
            address="local",
            num_cpus=config.num_cpus,
            include_dashboard=False,
            log_to_driver=False,
        )
        before = peak_memory_bytes()
        first = score_bucket(job, scorer=StandInScorer)
        again = score_bucket(job, scorer=StandInScorer)
        files = len(list((Path(folder) / "scores" / "scores").rglob("*.parquet")))
        ray.shutdown()
    assert (first.scored, again.skipped) == (count, count)
    return {
        "objects": count,
        "seconds": {name: round(value, 3) for name, value in first.seconds.items()},
        "images_per_s": round(count / first.seconds["run"], 1),
        "ms_per_image": round(1e3 * first.seconds["run"] / count, 3),
        "list_again_s": round(again.seconds["list"], 3),
        "driver_peak_bytes": peak_memory_bytes(),
        "driver_bytes_before": before,
        "score_files": files,
    }


def make_images(folder: Path, count: int) -> None:
    """``count`` small JPEGs in folders of ``LINKS_PER_FILE``."""
    for start in range(0, count, LINKS_PER_FILE):
        part = folder / f"part-{start // LINKS_PER_FILE:04d}"
        part.mkdir(parents=True)
        category = list(CATEGORIES)[start // LINKS_PER_FILE % len(CATEGORIES)]
        original = part / "000.jpg"
        original.write_bytes(generate(category, "good", start, size=128).jpeg())
        for i in range(1, min(LINKS_PER_FILE, count - start)):
            os.link(original, part / f"{i:03d}.jpg")


def hardware() -> dict[str, Any]:
    """Processor, cores and memory of this machine."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if "model name" in line]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


if __name__ == "__main__":
    main()
