"""Invented patch tokens of one category's images: siblings that share a design, some damaged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.references import ReferenceImage, Seen

LAYERS, SIDE, WIDTH = 3, 12, 32
PATCHES = SIDE**2
EMBEDDING = 16


@dataclass(frozen=True)
class Line:
    """A category: kinds of patches on a regular grid, each image's own shade, and noise."""

    seed: int = 0
    shared: float = 1.0
    """Of what an image shows, how much its siblings show too."""
    noise: float = 0.5
    """Of each patch's own, where the kinds of patches differ by 1."""

    def tokens(self, numbers: range, damage: str = "") -> Tensor:
        """Unit tokens [M, T, N, C] of images, the same for a number whatever the others are.

        Args:
            numbers: of the images.
            damage: "" for good ones, "own" for one of each image's own, "same" for one that they
                share.
        """
        return torch.stack([self._image(number, damage) for number in numbers])

    def seen(self, tokens: Tensor, first: int = 0) -> Seen:
        """The images of tokens as a model sees them, numbered from ``first``."""
        numbers = range(first, first + len(tokens))
        return Seen(
            tuple(ReferenceImage(f"s3://line/{i}.png", f"etag-{i}") for i in numbers),
            tokens,
            torch.stack([F.normalize(_normal(4, i, EMBEDDING), dim=0) for i in numbers]),
            torch.stack([_normal(5, i, PATCHES) - 3 for i in numbers]),
            torch.stack([_normal(6, i, 1)[0] - 2 for i in numbers]),
        )

    def _image(self, number: int, damage: str) -> Tensor:
        kinds = _normal(self.seed, 10, LAYERS, 6, WIDTH)
        own = _normal(self.seed, 1_000 + number, LAYERS, 6, WIDTH)
        labels = torch.arange(PATCHES) * 6 // PATCHES
        patches = (self.shared * kinds + (1 - self.shared) * own)[:, labels]
        shade = 0.3 * _normal(self.seed, 2_000 + number, LAYERS, 1, WIDTH)
        noise = self.noise * _normal(self.seed, 3_000 + number, LAYERS, PATCHES, WIDTH)
        patches = patches + shade + noise
        if damage:
            what = _normal(self.seed, 4_000 + (number if damage == "own" else -1), LAYERS, 1, WIDTH)
            where = number * 7 % (PATCHES - 12)
            patches[:, where : where + 12] += 1.2 * what
        return F.normalize(patches, dim=-1)


def shuffled(length: int, seed: int = 0) -> Tensor:
    """An order [n]."""
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed))


def _normal(seed: int, number: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1_000_003 * seed + number)
    return torch.randn(shape, generator=generator)
