"""Make the small model of this package from nothing but generated pictures, on a CPU.

``python -m jobs.make_small_model`` draws them, trains a CLIP backbone and then AdaCLIP's own
weights on the training categories and on invented products, and writes
``pipeline/models/small/``. The categories in ``TEST_CATEGORIES`` take no part.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import tyro
from safetensors.torch import load_file, save_file

from pipeline.datasets.synthetic import TEST_CATEGORIES, TRAIN_CATEGORIES
from pipeline.evaluation import as_text
from pipeline.models import AdaCLIP, load_adaclip, save_checkpoint
from pipeline.models.clip import clip_config
from pipeline.small_model import (
    Budget,
    Pictures,
    denormals_flushed,
    measure,
    train_adaclip,
    train_image_tower,
    train_text_tower,
)

FOLDER = Path(__file__).parents[1] / "pipeline" / "models" / "small"
CONFIGURATION = FOLDER / "clip.json"
SIZE = 192  # of the pictures, and of the image tower's input
TEST_PAIRS = 30  # of each category, good and damaged
TEST_SEED = 1_000_000  # far from the seeds of training


@dataclass(frozen=True)
class Settings:
    """Make the small model from generated pictures."""

    output: str = str(FOLDER)
    """Folder that receives clip.safetensors and adaclip.safetensors."""
    start_from: str | None = None
    """A clip.safetensors whose image tower is trained further, instead of starting from nothing."""
    invented: int = 2400
    """Products that exist nowhere, each drawn good and damaged."""
    products: int = 40
    """Of each training category, each drawn good and damaged."""
    image_steps: int = 5000
    """Steps of the image tower, from small crops to whole pictures."""
    image_minutes: float | None = None
    """Train the image tower for so long instead of a number of steps."""
    text_steps: int = 400
    """Steps of the text tower."""
    adaclip_steps: int = 60
    """Steps of AdaCLIP's own weights, on whole pictures."""
    num_threads: int = 2
    """Of PyTorch."""
    seed: int = 0
    """Of everything."""


def main() -> int:
    """Draw, train, save; returns the exit code."""
    settings = tyro.cli(Settings, prog="python -m jobs.make_small_model")
    torch.set_num_threads(settings.num_threads)
    with denormals_flushed():
        make(settings)
    return 0


def make(settings: Settings) -> None:
    """Write both files of weights, and print what they do on the test categories."""
    torch.manual_seed(settings.seed)
    rngs = [np.random.default_rng([settings.seed, stage]) for stage in (1, 2, 3)]
    started, folder = time.monotonic(), Path(settings.output)
    weights = folder / "clip.safetensors"
    print(f"drawing {settings.invented:,} invented products and {settings.products} of", flush=True)
    print(f"{', '.join(TRAIN_CATEGORIES)}", flush=True)
    pictures = Pictures.draw(TRAIN_CATEGORIES, settings.products, SIZE, seed=settings.seed)
    pictures += Pictures.invent(settings.invented, SIZE, seed=settings.seed)
    print(f"{len(pictures.images):,} pictures in {time.monotonic() - started:.0f} s", flush=True)
    clip = open_clip.CLIP(**clip_config(str(CONFIGURATION)))

    def keep() -> None:
        save_file({k: v.half().contiguous() for k, v in clip.state_dict().items()}, weights)

    budget = Budget(settings.image_steps, settings.image_minutes)
    if settings.start_from:
        clip.load_state_dict(load_file(settings.start_from))
    continued = bool(settings.start_from)
    train_image_tower(clip, pictures, budget, rngs[0], continued=continued, keep=keep)
    train_text_tower(clip, pictures, settings.text_steps, rngs[1])
    keep()
    model = load_small(weights, checkpoint=None, seed=settings.seed)
    train_adaclip(model, pictures, settings.adaclip_steps, rngs[2])
    save_checkpoint(model, folder / "adaclip.safetensors")
    test = Pictures.draw(TEST_CATEGORIES, TEST_PAIRS, SIZE, seed=TEST_SEED, twins=False)
    print(f"\ncategories that took no part:\n{as_text(measure(model.eval(), test))}\n")
    print(f"{folder}: made in {(time.monotonic() - started) / 60:.0f} min")


def load_small(weights: Path, **arguments: Any) -> AdaCLIP:
    """AdaCLIP on a small backbone, with ``load_adaclip``'s other arguments."""
    return load_adaclip(
        backbone=str(CONFIGURATION), backbone_weights=str(weights), image_size=SIZE, **arguments
    )


if __name__ == "__main__":
    sys.exit(main())
