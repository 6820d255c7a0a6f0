"""The images of a scenario, what may take their place, and what the model makes of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.images import preprocess
from tests import golden
from tests.bucket import jpeg

from .plan import Fault

NUM_IMAGES = 40
CATEGORIES = ("bolt", "metal nut")
BATCH_SIZE = 8

Reference = Mapping[tuple[str, str], tuple[float, NDArray[np.float32]]]
"""(etag, category) → score and map of the model, with no storage and no Ray in between."""


def original(i: int) -> bytes:
    """Image i as it is listed."""
    return jpeg(i)


def successor(i: int, change: Fault) -> bytes:
    """What takes the place of image i; grown, it has four times the pixels."""
    return jpeg(1000 + i) if change == Fault.REPLACED else jpeg(2000 + i, (192, 128))


def key_of(i: int) -> str:
    """Key of image i, with its category as the folder."""
    return f"in/{_category(i)}/{i}.jpg"


def reference(weights: Mapping[str, str]) -> Reference:
    """Score every version of every image, undisturbed."""
    model = golden.load(weights)
    found = {}
    images = list(_versions())
    for start in range(0, len(images), BATCH_SIZE):
        versions = images[start : start + BATCH_SIZE]
        categories = [category for _, category in versions]
        pixels = [preprocess(body, golden.IMAGE_SIZE) for body, _ in versions]
        out = model.predict(torch.from_numpy(np.stack(pixels)), categories)
        maps = out.logit_grid.sigmoid().flatten(1).numpy()
        for (body, category), score, each in zip(versions, out.score.tolist(), maps, strict=True):
            found[f'"{hashlib.md5(body).hexdigest()}"', category] = score, each
    return found


def _versions() -> Iterator[tuple[bytes, str]]:
    for i in range(NUM_IMAGES):
        yield original(i), _category(i)
        yield successor(i, Fault.REPLACED), _category(i)
        yield successor(i, Fault.GROWN), _category(i)


def _category(i: int) -> str:
    return CATEGORIES[i % len(CATEGORIES)]
