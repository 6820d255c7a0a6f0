"""Options that change results: speed against deviation. Writes docs/benchmarks' JSON.

``taskset -c 1 python -m jobs.benchmark_options --output options.json``: a quarter of an hour.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from pipeline.benchmark.machine import hardware
from pipeline.benchmark.options import measure_options
from pipeline.provenance import versions


@dataclass(frozen=True, kw_only=True)
class OptionsBenchmarkConfig:
    """Measure what each option that changes results gains and costs."""

    backbone: str = "ViT-L-14-336"
    """open_clip model, with random weights, on which the speed is measured."""
    image_size: int = 518
    """Side of its input in pixels."""
    native_size: int = 336
    """Side of the input that it was made for."""
    repeats: int = 3
    """Timed rounds of each option and its baseline, in turns."""
    pictures_per_category: int = 30
    """Generated pictures of each of four products, for the deviation with the small model."""
    num_threads: int = 1
    """Of PyTorch. Processor time, which other programs disturb little, is used for one only."""
    output: Path | None = None
    """Where the JSON goes. Default: standard output."""


def main() -> None:
    """Measure every option and write the JSON."""
    config = tyro.cli(OptionsBenchmarkConfig)
    torch.set_num_threads(config.num_threads)
    results = measure_options(
        backbone=config.backbone,
        image_size=config.image_size,
        native=config.native_size,
        repeats=config.repeats,
        per_category=config.pictures_per_category,
    )
    settings = {**asdict(config), "output": None}
    document = {
        "benchmark": "options that change results",
        "hardware": hardware(),
        "versions": versions(),
        "settings": {k: v for k, v in settings.items() if v is not None},
        "results": results,
    }
    text = json.dumps(document, indent=2) + "\n"
    if config.output:
        config.output.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
