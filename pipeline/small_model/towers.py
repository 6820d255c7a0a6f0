"""Training the towers of a small CLIP, and AdaCLIP's own weights on it, from generated pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models import AdaCLIP, AdaCLIPSettings
from pipeline.models.prompts import Projections
from pipeline.models.training import make_optimizer, training_step

from .muon import Muon
from .pictures import Pictures
from .pretraining import (
    PretrainingHeads,
    Views,
    image_tower_loss,
    initialise_image_tower,
    text_tower_loss,
)

VIEWS = {  # side of the tower's view: sides in the picture that it is cut from, pictures a step
    64: ((48, 64, 80, 96), 64),  # crops, many times cheaper than whole pictures: where
    128: ((96, 128, 160, 192), 16),
    192: ((144, 168, 192, 192, 192), 8),  # whole pictures, or nearly so: whether
}
MUON_LR, ADAM_LR = 0.02, 2e-3
TEXT_LR = 1e-2
# CPUs without instructions for it take four times as long in bfloat16 as in float32.
BFLOAT16_PAYS = any(torch.cpu.get_capabilities().get(k) for k in ("amx_bf16", "avx512_bf16"))
WARM_UP = 100  # steps
WHITENING_CROPS = 500
PROGRESS_INTERVAL_S = 30.0
TEXT_BATCH = 16  # class names
MADE_UP_TOKENS = 3  # at most, of a class name that means nothing
ADACLIP_BATCH = 8
# On new pictures of training products this, a quarter of it and no step at all are equally good.
ADACLIP_LR = 2e-4


@dataclass(frozen=True)
class Course:
    """What a budget of the image tower is spent on."""

    view_shares: tuple[float, ...]
    """Of the time or steps, for each of the ``VIEWS``."""
    rate: float
    """Of the learning rates, at their peak."""


FROM_NOTHING = Course((0.35, 0.3, 0.35), 1.0)
GOING_ON = Course((0.1, 0.3, 0.6), 0.5)  # crops have taught an earlier tower what they can


@dataclass(frozen=True)
class Budget:
    """How long a schedule goes on: for so many steps, or for so many minutes."""

    steps: int | None
    minutes: float = 0.0
    """Of wall-clock time, if no steps are given."""

    def shares(self) -> Iterator[float]:
        """How much of it is used up, from 0 to 1, before each step."""
        started, step = time.monotonic(), 0
        while (done := self._share(started, step)) < 1:
            yield done
            step += 1

    def _share(self, started: float, step: int) -> float:
        if self.steps is None:
            used, budget = time.monotonic() - started, 60 * self.minutes
        else:
            used, budget = step, self.steps
        return used / budget if budget else 1.0


def train_image_tower(
    clip: Any,
    heads: PretrainingHeads,
    pictures: Pictures,
    budget: Budget,
    rng: np.random.Generator,
    course: Course = FROM_NOTHING,
) -> None:
    """From small crops to whole pictures.

    All come in pairs of the same product, good and damaged, so that nothing but the damage tells
    them apart.

    Args:
        course: unless it is ``FROM_NOTHING``, the tower and the read-outs are trained as they are.
    """
    if course is FROM_NOTHING:
        chosen = pictures.twins(rng, WHITENING_CROPS)
        initialise_image_tower(clip, pictures.views(rng, chosen, min(VIEWS)).images)
    optimizers = _optimizers(clip.visual, heads, course.rate)
    ends = np.cumsum(course.view_shares)
    grid, patch = _grid(clip.visual), clip.visual.conv1.kernel_size[0]
    for step, done in progress("image tower", budget.shares()):
        side = list(VIEWS)[int(np.searchsorted(ends[:-1], done, side="right"))]
        sides, count = VIEWS[side]
        chosen = pictures.twins(rng, count)
        views = _resize(pictures.views(rng, chosen, int(rng.choice(sides))), side)
        row, column = rng.integers(0, grid - side // patch + 1, 2)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=BFLOAT16_PAYS):
            loss = image_tower_loss(clip, heads, views, (row, column))
        update(optimizers, loss, step, done)


def _grid(visual: Any) -> int:
    tokens: int = visual.positional_embedding.shape[0]
    return math.isqrt(tokens - 1)


def _optimizers(visual: Any, heads: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest."""
    matrices = [p for p in visual.transformer.parameters() if p.ndim == 2]
    taken = set(map(id, matrices))
    others = [p for p in [*visual.parameters(), *heads.parameters()] if id(p) not in taken]
    return [
        Muon(matrices, lr=rate * MUON_LR, weight_decay=0.01),
        torch.optim.AdamW(others, lr=rate * ADAM_LR, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _resize(views: Views, side: int) -> Views:
    if views.images.shape[-1] == side:
        return views

    def resize(images: Tensor) -> Tensor:
        return F.interpolate(images, side, mode="bilinear", antialias=True, align_corners=False)

    masks = resize(views.masks[:, None])[:, 0]
    return Views(resize(views.images), resize(views.sound), masks, views.categories)


def train_text_tower(
    clip: Any, states: Tensor, names: Sequence[str], steps: int, rng: np.random.Generator
) -> None:
    """Tune it to the two states [2, E] of the locked image tower, whatever the product is called.

    A third of the names are the products', a third are "object" and a third mean nothing: names
    that training never saw stand beside words that it did. In every other step stand prompts of
    any kind before the sentences, so that AdaCLIP's do not begin by hiding them.
    """
    tokenizer = open_clip.SimpleTokenizer()
    text = [p for name, p in clip.named_parameters() if not name.startswith("visual.")]
    optimizer = torch.optim.AdamW(text, lr=TEXT_LR, betas=(0.9, 0.98), weight_decay=0.05)
    width, depth = clip.token_embedding.embedding_dim, len(clip.transformer.resblocks)
    states = F.normalize(states.detach(), dim=-1)
    for step, done in progress("text tower", Budget(steps).shares()):
        some = [_name(rng, names, tokenizer) for _ in range(TEXT_BATCH)]
        shape = (TEXT_BATCH, depth, AdaCLIPSettings.prompt_length, width)
        prompts = torch.from_numpy(rng.standard_normal(shape, np.float32)) if step % 2 else None
        update([optimizer], text_tower_loss(clip, states, some, prompts), step, done)


def _name(rng: np.random.Generator, names: Sequence[str], tokenizer: Any) -> str:
    kind = rng.integers(3)
    if kind == 0:
        return names[int(rng.integers(len(names)))]
    if kind == 1:
        return "object"
    ids = rng.integers(len(tokenizer.encoder) - 2, size=rng.integers(1, 1 + MADE_UP_TOKENS))
    made_up: str = tokenizer.decode(ids.tolist())
    return made_up.strip() or "object"


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


def train_adaclip(
    model: AdaCLIP,
    read_outs: Projections,
    pictures: Pictures,
    steps: int,
    rng: np.random.Generator,
) -> None:
    """The paper's losses on whole pictures, in few and small steps.

    The class embedding starts as the backbone gives it, patches as the ``read_outs`` of its
    image tower.
    """
    with torch.no_grad():
        for name, weight in model.cls_token_layer.named_parameters():
            weight.copy_(torch.eye(len(weight)) if name.endswith("weight") else 0 * weight)
    model.patch_token_layer.load_state_dict(read_outs.state_dict())
    optimizer = make_optimizer(model, lr=ADACLIP_LR)
    whole = pictures.images.shape[1]
    for _ in progress("AdaCLIP", Budget(steps).shares()):
        views = pictures.views(rng, pictures.twins(rng, ADACLIP_BATCH), whole)
        names = [pictures.names[i] for i in views.categories]
        labels = views.masks.flatten(1).any(1)
        training_step(model, optimizer, views.images, names, labels, views.masks)


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
