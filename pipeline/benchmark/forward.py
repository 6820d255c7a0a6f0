"""The "model" part: ``measure_model`` on the model and device that the settings name."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.config import BenchmarkConfig
from pipeline.distributed.loading import load_model
from pipeline.distributed.resources import CPU_BATCH_SIZE, GPU_BATCH_SIZE

from .model import measure_model


def measure_forward(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """Stages, whole and floor of a forward pass at each batch size; in this process.

    Raises:
        ValueError: there is no such model.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    device = "cuda" if torch.cuda.is_available() and config.gpus_per_actor != 0 else "cpu"
    torch.backends.cudnn.allow_tf32 = False  # as the scorer
    model = load_model(config.model_spec, device)
    default = GPU_BATCH_SIZE if device == "cuda" else CPU_BATCH_SIZE
    return [
        measure_model(model, batch_size=size, repeats=config.num_steps).as_dict()
        for size in config.batch_size or (default,)
    ]


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
