"""What a training run takes before its first step: CPU seconds of all its processes, Ray's too."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.config import BenchmarkConfig, ModelConfig
from pipeline.errors import CannotRunError
from pipeline.storage import write_object
from pipeline.synthetic import CATEGORIES, generate

from .processes import ProcessTree

IMAGES_PER_LABEL = 2  # of each category; two images a step
LOOK_S = 0.1  # between two looks at all processes
SHOWN = 20  # processes, the busiest


def measure_start(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """Train as users do, on generated products and a Ray of its own, until the first step is done.

    Returns:
        A row that tells what all processes took together, and one for each of the busiest.

    Raises:
        CannotRunError: the job failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        make_products(f"{folder}/data", config.model_spec.image_size)
        command = [sys.executable, "-m", "pipeline.commands", "train", *flags(config, folder)]
        started = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as job:
            tree, checkpoint = ProcessTree(job.pid), Path(folder, "out", "checkpoint.pt")
            while job.poll() is None and not checkpoint.exists():
                tree.look()
                time.sleep(LOOK_S)
            tree.look()
            seconds = time.monotonic() - started
        if job.returncode:
            raise CannotRunError(f"the training job ended with exit code {job.returncode}")
    rows = [{"process": "all", "cpu_s": round(tree.cpu_s, 2), "seconds": round(seconds, 1)}]
    rows[0]["with_pytorch"] = sum(each.loads_pytorch for each in tree.processes)
    rows += [
        {"process": each.name, "cpu_s": round(each.cpu_s, 2), "with_pytorch": each.loads_pytorch}
        for each in tree.processes[:SHOWN]
    ]
    return rows


def flags(config: BenchmarkConfig, folder: str) -> list[str]:
    """Of the training job: one worker, two images a step, a checkpoint after each."""
    given = ["--data", f"{folder}/data", "--output", f"{folder}/out", "--address", "local"]
    given += ["--epochs", "1", "--batch-size", "2", "--checkpoint-every-steps", "1"]
    given += ["--held-out", "0", "--num-workers", "1", "--init", config.model_spec.checkpoint]
    for each in fields(ModelConfig):
        value, name = getattr(config.model_spec, each.name), each.name.replace("_", "-")
        if isinstance(value, bool):
            given.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None and value != each.default:
            given += [f"--{name}", str(value)]
    return given


def make_products(folder: str, size: int) -> None:
    """Good and damaged products with masks, in the layout of folders."""
    for category in list(CATEGORIES)[:2]:
        for defect in ("good", "stain"):
            for i in range(IMAGES_PER_LABEL):
                sample = generate(category, defect, i, size)
                write_object(f"{folder}/{category}/{defect}/{i}.jpg", sample.jpeg())
                if defect != "good":
                    mask = io.BytesIO()
                    Image.fromarray(sample.mask).save(mask, "PNG")
                    write_object(f"{folder}/{category}/masks/{defect}/{i}.png", mask.getvalue())
