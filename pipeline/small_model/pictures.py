"""Generated pictures in memory, and the batches of crops that the towers learn from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.images.normalising import normalise_
from pipeline.synthetic import CATEGORIES, Sample, generate, generate_invented

from .pretraining import Views

ON_DEFECT_SHARE = 0.85  # of the crops from damaged products show some of the defect
RECOLOURED_SHARE = 0.7


@dataclass(frozen=True)
class Pictures:
    """Generated pictures."""

    images: NDArray[np.uint8]
    """[N, S, S, 3]; good ones at even places, damaged ones behind them."""
    masks: NDArray[np.bool_]
    """[N, S, S]"""
    categories: NDArray[np.int64]
    """[N] numbers of the names."""
    names: tuple[str, ...]

    @classmethod
    def draw(
        cls, names: tuple[str, ...], pairs: int, size: int, *, seed: int, twins: bool = True
    ) -> Pictures:
        """So many pairs of each category, good and damaged, its defects in turn.

        Args:
            twins: a pair shows the same product; otherwise two.
        """
        jobs = [(name, seed + (1 if twins else 2) * i, i) for i in range(pairs) for name in names]
        drawn = list(_drawn(partial(_pair, twins=twins, size=size), jobs))
        return cls._of([(job[0], *pair) for job, pair in drawn])

    @classmethod
    def invent(cls, products: int, size: int, *, seed: int) -> Pictures:
        """Twins of so many products that exist nowhere; see ``generate_invented``."""
        jobs = [(seed + i,) for i in range(products)]
        return cls._of([found for _, found in _drawn(partial(_invented_twins, size=size), jobs)])

    @classmethod
    def _of(cls, drawn: list[tuple[str, Sample, Sample]]) -> Pictures:
        names = list(dict.fromkeys(name for name, *_ in drawn))
        numbers = {name: number for number, name in enumerate(names)}
        samples = [sample for _, *pair in drawn for sample in pair]
        return cls(
            np.stack([sample.image for sample in samples]),
            np.stack([sample.mask for sample in samples]),
            np.repeat([numbers[name] for name, *_ in drawn], 2),
            tuple(names),
        )

    def __add__(self, other: Pictures) -> Pictures:
        """Both, the names of the other behind these."""
        return Pictures(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.masks, other.masks]),
            np.concatenate([self.categories, other.categories + len(self.names)]),
            self.names + other.names,
        )

    def whole(self, chosen: NDArray[np.int64]) -> Tensor:
        """Normalised images [B, 3, S, S] of some numbers."""
        return normalise_(torch.from_numpy(self.images[chosen]).permute(0, 3, 1, 2) / 255)

    def twins(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Numbers of products good and damaged, ``count`` in all."""
        good = 2 * rng.integers(len(self.images) // 2, size=count // 2)
        return np.concatenate([good, good + 1])

    def views(self, rng: np.random.Generator, chosen: NDArray[np.int64], side: int) -> Views:
        """Crops of pictures of some numbers, mostly so that they show a defect if there is one.

        Returns:
            Views of ``side`` pixels, turned, mirrored and recoloured at random.
        """
        cut = []
        for i in chosen:
            where = self._place(rng, i, side)
            mask = self.masks[i][where][..., None]
            # The good twin goes through the same.
            view = np.concatenate([self.images[i][where], self.images[i - i % 2][where], mask], -1)
            view = np.rot90(view, int(rng.integers(4)))
            cut.append(view[:, ::-1] if rng.random() < 0.5 else view)
        cuts = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2)
        images, sound = recolour(rng, cuts[:, :6].unflatten(1, (2, 3)) / 255).unbind(dim=1)
        return Views(
            normalise_(images),
            normalise_(sound),
            cuts[:, 6].float(),
            torch.from_numpy(self.categories[chosen]),
        )

    def _place(self, rng: np.random.Generator, i: int, side: int) -> tuple[slice, slice]:
        size = self.images.shape[1]
        row, column = rng.integers(0, size - side + 1, 2)
        if side < size and self.masks[i].any() and rng.random() < ON_DEFECT_SHARE:
            rows, columns = np.nonzero(self.masks[i])
            at = rng.integers(len(rows))
            row = np.clip(rows[at] - rng.integers(side), 0, size - side)
            column = np.clip(columns[at] - rng.integers(side), 0, size - side)
        return slice(row, row + side), slice(column, column + side)


def recolour(rng: np.random.Generator, images: Tensor) -> Tensor:
    """Other hues, contrasts and brightness for most of the sets [B, n, 3, H, W] of images."""
    batch = len(images)
    order = torch.from_numpy(np.stack([rng.permutation(3) for _ in range(batch)]))
    mixed = images.gather(2, order[:, None, :, None, None].expand_as(images))
    gamma, contrast, brightness = (
        torch.from_numpy(rng.uniform(low, high, (batch, 1, 1, 1, 1))).float()
        for low, high in ((0.7, 1.4), (0.6, 1.3), (-0.15, 0.15))
    )
    mixed = ((mixed**gamma - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)
    chosen = torch.from_numpy(rng.random((batch, 1, 1, 1, 1)) < RECOLOURED_SHARE)
    return torch.where(chosen, mixed, images)


def _drawn(
    draw: Callable[..., Any], jobs: list[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Each job with what a process drew for it."""
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = pool.map(draw, *zip(*jobs, strict=True), chunksize=20)
        yield from zip(jobs, found, strict=True)


def _pair(name: str, seed: int, number: int, *, twins: bool, size: int) -> tuple[Sample, Sample]:
    kinds = CATEGORIES[name].defects
    damaged = generate(name, kinds[number % len(kinds)], seed, size)
    return generate(name, "good", seed if twins else seed + 1, size), damaged


def _invented_twins(seed: int, *, size: int) -> tuple[str, Sample, Sample]:
    name, (good, damaged) = generate_invented(seed, 1, size)
    return name, good, damaged
