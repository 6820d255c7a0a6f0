"""Training the towers of a small CLIP, and AdaCLIP's own weights on it, from generated pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models import AdaCLIP
from pipeline.models.pretraining import (
    PretrainingHeads,
    class_embedding,
    image_tower_loss,
    initialise_image_tower,
    text_tower_loss,
)
from pipeline.models.text import ABNORMAL_STATES, NORMAL_STATES, TEMPLATES
from pipeline.models.training import make_optimizer, training_step

from .pictures import Pictures

VIEWS = {  # side of the tower's view: sides in the picture that it is cut from, pictures a step
    64: ((48, 64, 80, 96), 64),  # crops, many times cheaper than whole pictures: where
    128: ((96, 128, 160, 192), 16),
    192: ((144, 168, 192, 192, 192), 8),  # whole pictures, or nearly so: whether
}
VIEW_SHARES = (0.35, 0.3, 0.35)  # of the time or steps
CONTINUED_SHARES = (0.0, 0.35, 0.65)  # where the tower starts from weights
CONTINUED_RATE = 0.5  # of the learning rates then
MUON_LR, ADAM_LR = 0.02, 2e-3
WARM_UP = 100  # steps
PROGRESS_INTERVAL_S = 30.0
KEEP_INTERVAL_S = 300.0
TEXT_PICTURES = 1000  # that the text tower is tuned to
TEXT_BATCH = 64
ADACLIP_BATCH = 8
# Chosen on training categories left out: at 0.004 the maps of categories never seen got worse
# after 50 steps, at this rate after 120.
ADACLIP_LR = 5e-4


@dataclass(frozen=True)
class Budget:
    """How long a schedule goes on: for so many steps, or for so many minutes."""

    steps: int
    minutes: float | None = None
    """Of wall-clock time; given, it takes the place of the steps."""

    def shares(self) -> Iterator[float]:
        """How much of it is used up, from 0 to 1, before each step."""
        started, step = time.monotonic(), 0
        while (done := self._share(started, step)) < 1:
            yield done
            step += 1

    def _share(self, started: float, step: int) -> float:
        if self.minutes is None:
            return step / self.steps
        return (time.monotonic() - started) / (60 * self.minutes)


def train_image_tower(
    clip: Any,
    pictures: Pictures,
    budget: Budget,
    rng: np.random.Generator,
    *,
    continued: bool = False,
    keep: Callable[[], None] = lambda: None,
) -> None:
    """From small crops to whole pictures.

    All come in pairs of the same product, good and damaged, so that nothing but the damage tells
    them apart.

    Args:
        continued: the tower holds weights to start from; small crops are left out.
        keep: called every few minutes, for a run that does not reach its end.
    """
    kept = time.monotonic()
    depth, grid = len(clip.visual.transformer.resblocks), _grid(clip.visual)
    side = next(iter(VIEWS))
    if not continued:
        initialise_image_tower(clip, pictures.crops(rng, pictures.twins(rng, 500), side)[0])
    heads = PretrainingHeads(clip, len(pictures.names), [depth * i // 4 for i in (1, 2, 3, 4)])
    optimizers = _optimizers(clip.visual, heads, CONTINUED_RATE if continued else 1.0)
    ends = np.cumsum(CONTINUED_SHARES if continued else VIEW_SHARES)
    patch = clip.visual.conv1.kernel_size[0]
    for step, done in progress("image tower", budget.shares()):
        side = list(VIEWS)[int(np.searchsorted(ends[:-1], done, side="right"))]
        sides, count = VIEWS[side]
        chosen = pictures.twins(rng, count)
        images, masks, categories = pictures.crops(rng, chosen, int(rng.choice(sides)))
        images, masks = _resize(images, side), _resize(masks[:, None], side)[:, 0]
        row, column = rng.integers(0, grid - side // patch + 1, 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = image_tower_loss(clip, heads, images, masks, categories, (row, column))
        update(optimizers, loss, step, done)
        if time.monotonic() - kept > KEEP_INTERVAL_S:
            keep()
            kept = time.monotonic()


def _grid(visual: Any) -> int:
    tokens: int = visual.positional_embedding.shape[0]
    return math.isqrt(tokens - 1)


def _optimizers(visual: Any, heads: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest."""
    matrices = [p for p in visual.transformer.parameters() if p.ndim == 2]
    taken = set(map(id, matrices))
    others = [p for p in [*visual.parameters(), *heads.parameters()] if id(p) not in taken]
    return [
        torch.optim.Muon(matrices, lr=rate * MUON_LR, weight_decay=0.01),
        torch.optim.AdamW(others, lr=rate * ADAM_LR, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _resize(images: Tensor, side: int) -> Tensor:
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, side, mode="bilinear", antialias=True, align_corners=False)


def train_text_tower(clip: Any, pictures: Pictures, steps: int, rng: np.random.Generator) -> None:
    """Tune it to the class embeddings of the locked image tower."""
    some = pictures.twins(rng, TEXT_PICTURES)
    meanings = (2 * pictures.categories + pictures.masks.any((1, 2)))[some]
    tokenize = open_clip.SimpleTokenizer()
    with torch.no_grad():
        parts = np.array_split(some, -(-len(some) // 8))
        embeddings = torch.cat([class_embedding(clip, pictures.whole(part)) for part in parts])
    text = [p for name, p in clip.named_parameters() if not name.startswith("visual.")]
    optimizer = torch.optim.AdamW(text, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.05)
    for step, done in progress("text tower", Budget(steps).shares()):
        chosen = rng.integers(len(meanings), size=TEXT_BATCH)
        tokens = tokenize([_sentence(rng, pictures.names[m // 2], m % 2) for m in meanings[chosen]])
        loss = text_tower_loss(clip, embeddings[chosen], torch.from_numpy(meanings[chosen]), tokens)
        update([optimizer], loss, step, done)


def _sentence(rng: np.random.Generator, name: str, damaged: int) -> str:
    states = ABNORMAL_STATES if damaged else NORMAL_STATES
    # Names that training never saw stand beside states that it did: so must "object".
    name = name if rng.random() < 0.5 else "object"
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(
        states[rng.integers(len(states))].format(name)
    )


def update(optimizers: list[torch.optim.Optimizer], loss: Tensor, step: int, done: float) -> None:
    """One step; the rate warms up and falls in a cosine to 0."""
    rate = min(1, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * done))
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("peak_lr", group["lr"])
            group["lr"] = group["peak_lr"] * rate
        optimizer.step()


def progress(what: str, shares: Iterator[float]) -> Iterator[tuple[int, float]]:
    """Numbers of steps and what share is done, with a line on the terminal every half a minute."""
    started = said = time.monotonic()
    step = -1
    for step, done in enumerate(shares):
        yield step, done
        now = time.monotonic()
        if now - said > PROGRESS_INTERVAL_S and done:
            said, left = now, (now - started) / done * (1 - done)
            print(f"{what}: {step + 1:,} steps, {done:.0%} done, {left:.0f} s left", flush=True)
    print(f"{what}: {step + 1:,} steps in {time.monotonic() - started:.0f} s", flush=True)


def train_adaclip(model: AdaCLIP, pictures: Pictures, steps: int, rng: np.random.Generator) -> None:
    """The paper's losses on whole pictures, in few and small steps."""
    with torch.no_grad():  # start from the class embedding as the backbone gives it
        for name, weight in model.cls_token_layer.named_parameters():
            weight.copy_(torch.eye(len(weight)) if name.endswith("weight") else 0 * weight)
    optimizer = make_optimizer(model, lr=ADACLIP_LR)
    whole = pictures.images.shape[1]
    for _ in progress("AdaCLIP", Budget(steps).shares()):
        chosen = pictures.twins(rng, ADACLIP_BATCH)
        images, masks, categories = pictures.crops(rng, chosen, whole)
        names = [pictures.names[i] for i in categories]
        training_step(model, optimizer, images, names, masks.flatten(1).any(1), masks)


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
