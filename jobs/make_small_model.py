"""Make the small model of this package from nothing but generated pictures, on a CPU.

``python -m jobs.make_small_model`` draws them, trains a CLIP backbone and then AdaCLIP's own
weights on the training categories, and writes ``pipeline/models/small/``. The categories in
``TEST_CATEGORIES`` take no part.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import torch
import torch.nn.functional as F
import tyro
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from pipeline.anomaly_map import render
from pipeline.datasets.synthetic import CATEGORIES, TEST_CATEGORIES, TRAIN_CATEGORIES, generate
from pipeline.evaluation import PixelHistogram, as_text, image_metrics, metrics_table
from pipeline.images import MEAN, STD
from pipeline.models import AdaCLIP, load_adaclip, save_checkpoint
from pipeline.models.clip import clip_config
from pipeline.models.pretraining import (
    PretrainingHeads,
    class_embedding,
    image_tower_loss,
    initialise_image_tower,
    text_tower_loss,
)
from pipeline.models.text import ABNORMAL_STATES, NORMAL_STATES, TEMPLATES
from pipeline.models.training import make_optimizer, training_step

FOLDER = Path(__file__).parents[1] / "pipeline" / "models" / "small"
CONFIGURATION = FOLDER / "clip.json"
SIZE = 192  # of the pictures, and of the image tower's input
CROP = 64
CROPPED = (48, 64, 80, 96)  # sides in the picture of what becomes a crop: defects of many sizes
TEXT_PICTURES = 1500  # that the text tower is tuned to
PROGRESS_INTERVAL_S = 30.0
TEST_PICTURES = 60  # of each category, half of them good
TEST_SEED = 1_000_000  # far from the seeds of training
SIGMA = 4.0 * SIZE / 518  # of the Gaussian filter on maps; the released code's 4 px at 518 px
AGAIN_RATE = 0.5
ADACLIP_BATCH = 8
# Chosen, with the number of steps, on training categories left out: at 0.004 the maps of categories
# never seen got worse after 50 steps, at this rate after 120.
ADACLIP_LR = 5e-4


@dataclass(frozen=True)
class Settings:
    """Make the small model from generated pictures."""

    output: str = str(FOLDER)
    """Folder that receives clip.safetensors and adaclip.safetensors; it holds clip.json."""
    pictures: int = 400
    """Generated for each training category, half of them good."""
    image_steps: int = 14000
    """Steps of the image tower on crops."""
    whole_steps: int = 700
    """Steps of the image tower on whole pictures, after those on crops."""
    again_steps: int = 8000
    """Steps on crops of a second round, at a lower rate; whole pictures follow again."""
    text_steps: int = 600
    """Steps of the text tower."""
    adaclip_steps: int = 60
    """Steps of AdaCLIP's own weights, on whole pictures."""
    num_threads: int = 2
    """Of PyTorch."""
    seed: int = 0
    """Of everything."""


@dataclass(frozen=True)
class Pictures:
    """Generated pictures of some categories."""

    images: NDArray[np.uint8]
    """[N, S, S, 3]"""
    masks: NDArray[np.bool_]
    """[N, S, S]"""
    categories: NDArray[np.int64]
    """[N] numbers of the names."""
    names: tuple[str, ...]

    @classmethod
    def draw(cls, names: tuple[str, ...], each: int, size: int, *, seed: int) -> Pictures:
        """Half of them good, the defects of a category in turn."""
        jobs = []
        for i in range(each):
            for name in names:
                defects = CATEGORIES[name].defects
                defect = "good" if i % 2 else defects[i // 2 % len(defects)]
                jobs.append((name, defect, seed + i, size))
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            samples = list(pool.map(generate, *zip(*jobs, strict=True), chunksize=50))
        return cls(
            np.stack([sample.image for sample in samples]),
            np.stack([sample.mask for sample in samples]),
            np.array([names.index(job[0]) for job in jobs]),
            names,
        )

    def crops(
        self, rng: np.random.Generator, count: int, side: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Images [B, 3, side, side], masks and categories; most show some of a defect."""
        images, masks = [], []
        size = self.images.shape[1]
        chosen = rng.integers(len(self.images), size=count)
        for i in chosen:
            row, column = rng.integers(0, size - side + 1, 2)
            if self.masks[i].any() and rng.random() < 0.85:
                rows, columns = np.nonzero(self.masks[i])
                at = rng.integers(len(rows))
                row = np.clip(rows[at] - rng.integers(side), 0, size - side)
                column = np.clip(columns[at] - rng.integers(side), 0, size - side)
            where = np.s_[i, row : row + side, column : column + side]
            turn, flip = int(rng.integers(4)), rng.random() < 0.5
            picture, mask = np.rot90(self.images[where], turn), np.rot90(self.masks[where], turn)
            images.append(picture[:, ::-1] if flip else picture)
            masks.append(mask[:, ::-1] if flip else mask)
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
        return (
            normalise(recolour(rng, pixels)),
            torch.from_numpy(np.stack(masks)).float(),
            torch.from_numpy(self.categories[chosen]),
        )


def recolour(rng: np.random.Generator, images: Tensor) -> Tensor:
    """Other hues, contrasts and brightness [B, 3, H, W] for seven in ten of the images."""
    batch = len(images)
    order = torch.from_numpy(np.stack([rng.permutation(3) for _ in range(batch)]))
    mixed = images.gather(1, order[:, :, None, None].expand_as(images))
    gamma, contrast, brightness = (
        torch.from_numpy(rng.uniform(low, high, (batch, 1, 1, 1))).float()
        for low, high in ((0.7, 1.4), (0.6, 1.3), (-0.15, 0.15))
    )
    mixed = ((mixed**gamma - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)
    chosen = torch.from_numpy(rng.random((batch, 1, 1, 1)) < 0.7)
    return torch.where(chosen, mixed, images)


def normalise(images: Tensor) -> Tensor:
    """[0, 1] → OpenAI's mean and standard deviation."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


def train_image_tower(
    clip: Any,
    pictures: Pictures,
    crop_steps: int,
    whole_steps: int,
    rng: np.random.Generator,
    *,
    rate: float = 1.0,
) -> None:
    """Crops first, many times cheaper than whole pictures, which come last.

    Args:
        rate: of the learning rates of a first round.
    """
    depth = len(clip.visual.transformer.resblocks)
    heads = PretrainingHeads(clip, len(pictures.names), [depth * i // 4 for i in (1, 2, 3, 4)])
    whole = pictures.images.shape[1]
    patch = clip.visual.conv1.kernel_size[0]
    matrices = [p for p in clip.visual.transformer.parameters() if p.ndim == 2]
    taken = set(map(id, matrices))
    others = [*clip.visual.parameters(), *heads.parameters()]
    others = [p for p in others if id(p) not in taken]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.02 * rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=2e-3 * rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    total = crop_steps + whole_steps
    for step in progress("image tower", total):
        if step < crop_steps:
            images, masks, categories = pictures.crops(rng, 32, int(rng.choice(CROPPED)))
            images, masks = (_resize(x, CROP) for x in (images, masks[:, None]))
            corner, masks = rng.integers(0, (whole - CROP) // patch + 1, 2), masks[:, 0]
        else:
            images, masks, categories = pictures.crops(rng, 6, whole)
            corner = np.zeros(2, dtype=int)
        loss = image_tower_loss(clip, heads, images, masks, categories, tuple(corner.tolist()))
        update(optimizers, loss, step, total)


def _resize(images: Tensor, side: int) -> Tensor:
    return F.interpolate(images, side, mode="bilinear", antialias=True, align_corners=False)


def train_text_tower(
    clip: Any, pictures: Pictures, settings: Settings, rng: np.random.Generator
) -> None:
    """Tune it to the class embeddings of the locked image tower."""
    count = len(pictures.images)
    some = rng.choice(count, min(count, TEXT_PICTURES), replace=False)
    meanings = (2 * pictures.categories + pictures.masks.any((1, 2)))[some]
    tokenize = open_clip.SimpleTokenizer()
    with torch.no_grad():
        embeddings = torch.cat(
            [
                class_embedding(clip, normalise(torch.from_numpy(part).permute(0, 3, 1, 2) / 255))
                for part in np.array_split(pictures.images[some], -(-len(some) // 8))
            ]
        )
    text = [p for name, p in clip.named_parameters() if not name.startswith("visual.")]
    optimizer = torch.optim.AdamW(text, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.05)
    for step in progress("text tower", settings.text_steps):
        chosen = rng.integers(len(meanings), size=64)
        tokens = tokenize([_sentence(rng, pictures.names[m // 2], m % 2) for m in meanings[chosen]])
        loss = text_tower_loss(clip, embeddings[chosen], torch.from_numpy(meanings[chosen]), tokens)
        update([optimizer], loss, step, settings.text_steps)


def _sentence(rng: np.random.Generator, name: str, damaged: int) -> str:
    states = ABNORMAL_STATES if damaged else NORMAL_STATES
    # Names that training never saw stand beside states that it did: so must "object".
    name = name if rng.random() < 0.5 else "object"
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(
        states[rng.integers(len(states))].format(name)
    )


def update(optimizers: list[torch.optim.Optimizer], loss: Tensor, step: int, total: int) -> None:
    """One step, with a warm-up over 100 steps and a cosine to 0."""
    rate = min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / total))
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("peak_lr", group["lr"])
            group["lr"] = group["peak_lr"] * rate
        optimizer.step()


def progress(what: str, total: int) -> Iterator[int]:
    """Numbers of steps, with a line on the terminal every half a minute."""
    started = said = time.monotonic()
    for step in range(total):
        yield step
        now = time.monotonic()
        if now - said > PROGRESS_INTERVAL_S or step + 1 == total:
            said, left = now, (now - started) / (step + 1) * (total - step - 1)
            print(f"{what}: {step + 1:,} of {total:,} steps, {left:.0f} s left", flush=True)


def train_adaclip(model: AdaCLIP, pictures: Pictures, steps: int, rng: np.random.Generator) -> None:
    """The paper's losses on whole pictures, in few and small steps."""
    optimizer = make_optimizer(model, lr=ADACLIP_LR)
    whole = pictures.images.shape[1]
    for _ in progress("AdaCLIP", steps):
        images, masks, categories = pictures.crops(rng, ADACLIP_BATCH, whole)
        names = [pictures.names[i] for i in categories]
        training_step(model, optimizer, images, names, masks.flatten(1).any(1), masks)


def measure(model: AdaCLIP, pictures: Pictures) -> pd.DataFrame:
    """``metrics_table`` of labelled pictures, the average last."""
    rows = []
    for number, name in enumerate(pictures.names):
        chosen = np.flatnonzero(pictures.categories == number)
        scores, pixels = [], PixelHistogram()
        for i in chosen:
            image = normalise(torch.from_numpy(pictures.images[i]).permute(2, 0, 1)[None] / 255)
            found = model.predict(image, [name])
            scores.append(found.score.item())
            anomaly_map = render(found.logit_grid[0].numpy(), SIZE, sigma=SIGMA)
            pixels.add(anomaly_map, pictures.masks[i])
        labels = pictures.masks[chosen].any((1, 2)).astype(int)
        rows.append(
            {
                "dataset": "generated",
                "category": name,
                "model": model.fingerprint(),
                "images": len(chosen),
                "abnormal": labels.sum(),
                "without_mask": 0,
                "unusable": 0,
                **image_metrics(np.array(scores), labels),
                **pixels.metrics(),
            }
        )
    return metrics_table(rows)


def main() -> int:
    """Draw, train, save; returns the exit code."""
    settings = tyro.cli(Settings, prog="python -m jobs.make_small_model")
    torch.set_num_threads(settings.num_threads)
    with denormals_flushed():
        make(settings)
    return 0


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take denormal numbers for 0 within the block.

    Gradients of a saturated map are full of them, and CPUs are slow with them: a step of training
    takes three times as long.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def make(settings: Settings) -> None:
    """Write both files of weights, and print what they do on the test categories."""
    torch.manual_seed(settings.seed)
    # A stage at a time may be made again with the same numbers.
    rngs = [np.random.default_rng([settings.seed, stage]) for stage in (1, 2, 3, 4)]
    started, folder = time.monotonic(), Path(settings.output)
    print(f"drawing {settings.pictures:,} pictures of each training category", flush=True)
    pictures = Pictures.draw(TRAIN_CATEGORIES, settings.pictures, SIZE, seed=settings.seed)
    clip = open_clip.CLIP(**clip_config(str(CONFIGURATION)))
    initialise_image_tower(clip, pictures.crops(rngs[0], 500, CROP)[0])
    whole = settings.whole_steps
    train_image_tower(clip, pictures, settings.image_steps, whole, rngs[0])
    train_image_tower(clip, pictures, settings.again_steps, whole, rngs[3], rate=AGAIN_RATE)
    train_text_tower(clip, pictures, settings, rngs[1])
    weights = folder / "clip.safetensors"
    save_file({k: v.half().contiguous() for k, v in clip.state_dict().items()}, weights)
    model = load_small(weights, checkpoint=None, seed=settings.seed)
    train_adaclip(model, pictures, settings.adaclip_steps, rngs[2])
    save_checkpoint(model, folder / "adaclip.safetensors")
    test = Pictures.draw(TEST_CATEGORIES, TEST_PICTURES, SIZE, seed=TEST_SEED)
    print(f"\ncategories that took no part:\n{as_text(measure(model.eval(), test))}\n")
    print(f"{folder}: made in {(time.monotonic() - started) / 60:.0f} min")


def load_small(weights: Path, **arguments: Any) -> AdaCLIP:
    """AdaCLIP on a small backbone, with ``load_adaclip``'s other arguments."""
    return load_adaclip(
        backbone=str(CONFIGURATION), backbone_weights=str(weights), image_size=SIZE, **arguments
    )


if __name__ == "__main__":
    sys.exit(main())
