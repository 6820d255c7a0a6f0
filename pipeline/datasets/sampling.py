"""Which auxiliary images train, in what order, and as which mosaics: pure functions of a seed.

Nothing is drawn while training runs, so that a run can be cut over workers, stopped and continued
without changing what it sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

MVTEC_MOSAIC_RATE = 0.2  # released code; 0 for every other data set
MVTEC_NAMES = ("mvtec", "mvtecad")  # in small letters, letters only
TILES = 4  # a mosaic is 2 x 2

Sample = tuple[int, ...]
"""Indices of one image, or of a mosaic's four, row by row."""


def hold_out(
    groups: Sequence[tuple[str, ...]], uris: Sequence[str], share: float, seed: int
) -> NDArray[np.bool_]:
    """Which images to keep for choosing the weights.

    Args:
        groups: what each image is stratified by, such as (data set, category, label).
        uris: name of each image; the choice does not depend on their order.
        share: of each group, to within one image; overall, rounded down.

    Returns:
        bool, one an image.
    """

    def rank(i: int) -> tuple[tuple[str, ...], bytes]:
        return groups[i], hashlib.blake2b(f"{seed}\0{uris[i]}".encode(), digest_size=16).digest()

    held_out = np.zeros(len(uris), dtype=bool)
    order = sorted(range(len(uris)), key=rank)
    for place, i in enumerate(order, start=1):
        held_out[i] = int(place * share) > int((place - 1) * share)
    return held_out


def epoch_samples(
    groups: Sequence[Hashable], mosaic_rates: Sequence[float], *, seed: int, epoch: int
) -> list[Sample]:
    """Every image once, in random order, some as one tile of a mosaic of their group.

    Args:
        groups: of each image; a mosaic's tiles are of one group, and different images where the
            group has four.
        mosaic_rates: probability of each image to come in a mosaic.
        epoch: another one gives another order and other mosaics.
    """
    rng = np.random.default_rng([seed, epoch])
    members: dict[Hashable, list[int]] = {}
    place = [0] * len(groups)
    for i, group in enumerate(groups):
        place[i] = len(members.setdefault(group, []))
        members[group].append(i)
    order = rng.permutation(len(groups)).tolist()
    draws = rng.random(len(groups)).tolist()

    def sample(i: int, draw: float) -> Sample:
        if draw >= mosaic_rates[i]:
            return (i,)
        group = members[groups[i]]
        others = [*group[: place[i]], *group[place[i] + 1 :]] or [i]
        chosen = rng.choice(others, TILES - 1, replace=len(others) < TILES - 1)
        return tuple(rng.permutation([i, *chosen]).tolist())

    return [sample(i, draw) for i, draw in zip(order, draws, strict=True)]


def mosaic(tiles: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    """Four equally large images or masks [H, W, ...] in a 2 x 2 grid [2 H, 2 W, ...]."""
    rows = [np.concatenate(tiles[i : i + 2], axis=1) for i in (0, 2)]
    return np.concatenate(rows, axis=0)


def parse_mosaic_rates(rates: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """The mosaic rate of each named data set.

    Args:
        rates: "NAME=RATE", or a rate for all the others; what isn't named keeps the paper's.
        names: of the data sets.

    Raises:
        ValueError: names what is wrong.
    """
    found = {name: MVTEC_MOSAIC_RATE if _is_mvtec(name) else 0.0 for name in names}
    # A rate for all comes first, so that named ones win in any order.
    for text in sorted(rates, key=lambda rate: "=" in rate):
        name, _, number = text.rpartition("=")
        try:
            rate = float(number)
        except ValueError:
            rate = -1.0
        if not 0 <= rate <= 1:
            raise ValueError(f"mosaic rate {text!r} must be NAME=RATE or RATE, from 0 to 1")
        if name and name not in found:
            raise ValueError(f"mosaic rate {text!r}: the data sets are {', '.join(names)}")
        found |= {name: rate} if name else dict.fromkeys(names, rate)
    return found


def _is_mvtec(name: str) -> bool:
    return "".join(filter(str.isalnum, name.lower())) in MVTEC_NAMES
