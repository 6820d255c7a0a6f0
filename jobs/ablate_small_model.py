"""Which parts of AdaCLIP help the small model: ``python -m jobs.ablate_small_model``.

Trains AdaCLIP's own weights with each kind of prompts, with and without fusion, from several seeds
on the backbone in ``pipeline/models/small`` and from the projections of patches beside it, and
measures each on the categories that neither has seen. Prints the table of docs/small-model.md,
mean ± standard deviation over the seeds.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro

from jobs.make_small_model import TEST_SEED
from pipeline.evaluation.table import markdown
from pipeline.models import load_adaclip
from pipeline.models.packaged import IMAGE_SIZE, SMALL_MODEL
from pipeline.provenance import versions
from pipeline.small_model import Pictures, denormals_flushed, measure, train_adaclip
from pipeline.synthetic import TEST_CATEGORIES, TRAIN_CATEGORIES

SHOWN = ("image_auroc", "image_ap", "pixel_auroc", "pixel_aupro")


@dataclass(frozen=True)
class Settings:
    """Train and measure every variant of the small model."""

    output: str = "docs/benchmarks/small-model-ablation.json"
    """File that receives all figures."""
    seeds: int = 3
    """Trainings of each variant."""
    products: int = 20
    """Of each training category, each drawn good and damaged."""
    invented: int = 300
    """Products that exist nowhere, each drawn good and damaged."""
    test_pictures: int = 24
    """Of each test category, half of them good."""
    steps: int = 60
    """Steps of each training, of 8 pictures."""
    num_threads: int = 2
    """Of PyTorch."""


def main() -> int:
    """Train, measure, print and save; returns the exit code."""
    settings = tyro.cli(Settings, prog="python -m jobs.ablate_small_model")
    torch.set_num_threads(settings.num_threads)
    with denormals_flushed():
        print(table(pd.DataFrame(ablate(settings))))
    return 0


def ablate(settings: Settings) -> list[dict[str, object]]:
    """Train and measure every variant from every seed: a row each."""
    pictures = Pictures.draw(TRAIN_CATEGORIES, settings.products, IMAGE_SIZE, seed=0)
    pictures += Pictures.invent(settings.invented, IMAGE_SIZE, seed=0)
    pairs = settings.test_pictures // 2
    test = Pictures.draw(TEST_CATEGORIES, pairs, IMAGE_SIZE, seed=TEST_SEED, twins=False)
    read_outs = load_adaclip(**SMALL_MODEL).patch_token_layer
    rows = []
    kinds = ("none", "static", "dynamic", "both")
    for seed, kind, fusion in product(range(settings.seeds), kinds, (False, True)):
        variant = {"checkpoint": None, "prompt_kind": kind, "use_fusion": fusion, "seed": seed}
        model = load_adaclip(**SMALL_MODEL | variant)
        train_adaclip(model, read_outs, pictures, settings.steps, np.random.default_rng(seed))
        average = measure(model.eval(), test).iloc[-1]
        rows.append({"prompts": kind, "fusion": fusion, "seed": seed, **average[list(SHOWN)]})
        print(rows[-1], flush=True)
        save(settings, rows)
    return rows


def table(rows: pd.DataFrame) -> str:
    """Mean ± standard deviation over the seeds in percent, as Markdown."""
    lines = []
    for (kind, fusion), group in rows.groupby(["prompts", "fusion"], sort=False):
        cells = [
            f"{100 * group[name].mean():.1f} ± {100 * group[name].std():.1f}" for name in SHOWN
        ]
        lines.append([str(kind), "on" if fusion else "off", *cells])
    return markdown(["prompts", "fusion", *SHOWN], lines)


def save(settings: Settings, rows: list[dict[str, object]]) -> None:
    """Write everything measured so far, with settings, versions and hardware."""
    hardware = {"machine": platform.machine(), "cpus": os.cpu_count()}
    found = {
        "settings": asdict(settings),
        "hardware": hardware,
        "versions": versions(),
        "test_categories": TEST_CATEGORIES,
        "rows": rows,
    }
    Path(settings.output).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
