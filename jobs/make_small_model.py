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
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.evaluation import as_text
from pipeline.models import AdaCLIP, load_adaclip, save_checkpoint
from pipeline.models.configuration import clip_config
from pipeline.models.text import encode_text
from pipeline.packaged import FOLDER, IMAGE_SIZE, SMALL_MODEL
from pipeline.small_model import (
    FROM_NOTHING,
    GOING_ON,
    Budget,
    Pictures,
    denormals_flushed,
    measure,
    train_adaclip,
    train_image_tower,
    train_text_tower,
)
from pipeline.small_model.pretraining import PretrainingHeads
from pipeline.synthetic import TEST_CATEGORIES, TRAIN_CATEGORIES

TEST_PAIRS = 30  # of each category, good and damaged
TEST_SEED = 1_000_000  # far from the seeds of training


@dataclass(frozen=True)
class Settings:
    """Make the small model from generated pictures."""

    output: str = str(FOLDER)
    """Folder that receives clip.safetensors and adaclip.safetensors."""
    work: str = "small-model"
    """Folder that keeps the trained image tower: a call that finds it there makes the rest."""
    go_on_from: str | None = None
    """Folder of an earlier call: train its weights further, on the pictures of another --seed."""
    invented: int = 2400
    """Products that exist nowhere, each drawn good and damaged."""
    products: int = 300
    """Of each training category, each drawn good and damaged."""
    image_minutes: float = 95.0
    """Of training the image tower, from small crops to whole pictures."""
    image_steps: int | None = None
    """Train the image tower for so many steps instead, however long they take."""
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
    # What can be wrong is found now, not after an hour.
    folder.mkdir(parents=True, exist_ok=True)
    kept = Path(settings.work) / "image-tower.safetensors"
    if kept.exists():
        check_made_with(kept, settings)
    earlier = None if settings.go_on_from is None else load_earlier(Path(settings.go_on_from))
    print(f"drawing {settings.invented:,} invented products and {settings.products} of", flush=True)
    print(f"{', '.join(TRAIN_CATEGORIES)}", flush=True)
    pictures = Pictures.draw(TRAIN_CATEGORIES, settings.products, IMAGE_SIZE, seed=settings.seed)
    pictures += Pictures.invent(settings.invented, IMAGE_SIZE, seed=settings.seed)
    print(f"{len(pictures.images):,} pictures in {time.monotonic() - started:.0f} s", flush=True)
    clip = open_clip.CLIP(**clip_config(SMALL_MODEL["backbone"]))
    heads = PretrainingHeads(clip, len(pictures.names))
    if earlier is not None:
        start_from(earlier, clip, heads)
    if kept.exists():
        print(f"image tower: from {kept}")
        nn.ModuleDict({"visual": clip.visual, "heads": heads}).load_state_dict(load_file(kept))
    else:
        budget = Budget(settings.image_steps, settings.image_minutes)
        course = FROM_NOTHING if earlier is None else GOING_ON
        train_image_tower(clip, heads, pictures, budget, rngs[0], course)
        keep(kept, settings, clip, heads)
    train_text_tower(clip, heads.states, pictures.names, settings.text_steps, rngs[1])
    weights = folder / "clip.safetensors"
    save_file({k: v.half().contiguous() for k, v in clip.state_dict().items()}, weights)
    made = {"backbone_weights": str(weights), "checkpoint": None}
    model = load_adaclip(**SMALL_MODEL | made, seed=settings.seed)
    train_adaclip(model, heads.patch_token_layer, pictures, settings.adaclip_steps, rngs[2])
    save_checkpoint(model, folder / "adaclip.safetensors")
    test = Pictures.draw(TEST_CATEGORIES, TEST_PAIRS, IMAGE_SIZE, seed=TEST_SEED, twins=False)
    print(f"\ncategories that took no part:\n{as_text(measure(model.eval(), test))}\n")
    print(f"{folder}: made in {(time.monotonic() - started) / 60:.0f} min")


def load_earlier(folder: Path) -> AdaCLIP:
    """The model that an earlier call wrote there."""
    names = {"backbone_weights": "clip.safetensors", "checkpoint": "adaclip.safetensors"}
    return load_adaclip(**SMALL_MODEL | {key: str(folder / name) for key, name in names.items()})


def start_from(earlier: AdaCLIP, clip: Any, heads: PretrainingHeads) -> None:
    """Take over its towers and read-outs of patches; the other read-outs are learned anew.

    The two states are where its sentences lie.
    """
    clip.load_state_dict(earlier.clip.state_dict())
    heads.patch_token_layer.load_state_dict(earlier.patch_token_layer.state_dict())
    with torch.no_grad():
        heads.states.copy_(encode_text(clip, ["object"], None)[0])


def keep(path: Path, settings: Settings, clip: Any, heads: PretrainingHeads) -> None:
    """Write the image tower and its read-outs, with what they depend on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    both = nn.ModuleDict({"visual": clip.visual, "heads": heads})
    save_file(both.state_dict(), path, {"made_with": made_with(settings)})


def check_made_with(path: Path, settings: Settings) -> None:
    """Refuse what ``keep`` wrote under other settings.

    Raises:
        SystemExit: it is such.
    """
    with safe_open(path, "pt") as file:
        if (found := file.metadata()["made_with"]) != made_with(settings):
            raise SystemExit(f"{path} was made with {found}; remove it, or say --work elsewhere")


def made_with(settings: Settings) -> str:
    """The settings that the image tower depends on."""
    names = ("go_on_from", "seed", "invented", "products", "image_steps", "image_minutes")
    return ", ".join(f"{name}={getattr(settings, name)}" for name in names)


if __name__ == "__main__":
    sys.exit(main())
