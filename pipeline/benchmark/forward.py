"""The "model" part: the model and the scorer around it, on the device that the settings name."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.config import BenchmarkConfig
from pipeline.distributed.loading import load_model
from pipeline.distributed.resources import CPU_BATCH_SIZE, GPU_BATCH_SIZE

from . import tables
from .model import measure_model
from .scorer_loop import by_cores, measure_reading, measure_scorer
from .whole_job import PHOTO

STAGE_COLUMNS = {"stage": "s", "ms": ".1f", "gflops": ",.1f"}
CORE_COLUMNS = {"cores": "d", "images_per_s": ".3g", "limited_by": "s"}


def measure_forward(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """Stages, whole and floor of a forward pass, and the scorer around it, at each batch size.

    In this process.

    Raises:
        ValueError: there is no such model.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    device = "cuda" if torch.cuda.is_available() and config.gpus_per_actor != 0 else "cpu"
    torch.backends.cudnn.allow_tf32 = False  # as the scorer
    model = load_model(config.model_spec, device)
    default = GPU_BATCH_SIZE if device == "cuda" else CPU_BATCH_SIZE
    reading = measure_reading(config, (config.photo_size or (PHOTO,))[0])
    results = []
    for size in config.batch_size or (default,):
        found = measure_model(model, batch_size=size, repeats=config.num_steps).as_dict()
        scorer = measure_scorer(model, config, batch_size=size, batches=config.num_steps)
        cores = _fed(device, scorer, reading)
        results.append(found | {"scorer": scorer, "reading": reading, "by_cores": cores})
    return results


def _fed(device: str, scorer: dict[str, Any], reading: dict[str, Any]) -> list[dict[str, Any]]:
    """Images/s by CPU cores; where a CPU is the device, what cores beside it read for it."""
    seconds = reading["cpu_s_per_image"]
    if device == "cpu":
        return by_cores(seconds, None)
    return by_cores(seconds + scorer["cpu_s_per_image"], scorer["images_per_s"])


def shown(result: dict[str, Any]) -> str:
    """One result for a terminal."""
    settings, scorer, reading = result["settings"], result["scorer"], result["reading"]
    idle = "with an idle share not known, for a CPU is its own host"
    fed = "images/s that CPU cores read"
    if settings["device"] != "cpu":
        idle, fed = (
            f"idle {scorer['device_idle']:.1%} of the time",
            "images/s of a GPU by CPU cores",
        )
    return (
        f"model: {settings['backbone']}, {settings['image_size']} px, {settings['precision']}, "
        f"batch {settings['batch_size']}, {settings['device']}; for each image\n"
        f"{tables.table(rows(result), STAGE_COLUMNS)}\n"
        f"  {result['images_per_s']:.3g} images/s, {result['ratio_to_floor']:.2f} times the floor, "
        f"{result['share_of_matrix_peak']:.0%} of the matrix peak, text "
        f"{result['text_share']:.1%}\n"
        f"  in the scorer {scorer['images_per_s']:.3g} images/s, the device {idle}\n"
        f"{fed}, photographs of {reading['photo_size']} px "
        f"({1e3 * reading['cpu_s_per_image']:.1f} ms of CPU time each)\n"
        f"{tables.table(result['by_cores'], CORE_COLUMNS)}"
    )


def rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The stages of one result as rows of a table, with the floor and the whole."""
    clock = f"{result['clock']}_median_s"
    batch = result["settings"]["batch_size"]

    def row(name: str, timing: dict[str, Any], gflops: float | None = None) -> dict[str, Any]:
        per_image = None if gflops is None else gflops / batch
        return {"stage": name, "ms": 1e3 * timing[clock] / batch, "gflops": per_image}

    found = [row(name, each, each["gflops"]) for name, each in result["stages"].items()]
    found.append(row("model", result["predict"], result["gflops"]))
    floors = result["floors"].items()
    return found + [row(f"floor, {name}", each, result["floor_gflops"]) for name, each in floors]
