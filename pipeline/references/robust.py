"""What is normal among the images of a category, found without labels: its looks.

A fit on everything is bent by the damaged images in it, and still tells most of them apart. So:
fit, keep the nearer half, fit again, until the half stays; then let in whatever is as near as the
half promises good images to be. The second step of the minimum covariance determinant (Rousseeuw
and Van Driessen, Technometrics 1999), on whole images instead of points.

What is left is damaged, or another look: a colour, a side, a second product of the same name. The
two are told apart by asking back. Damaged parts show nearly all that good ones show, so a fit on
them knows the good ones; a fit on another look does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .gaussian import Gaussian
from .left_out import left_out_distances
from .sums import Sums, sum_up

PEAK_SHARE = 0.05  # an image's distance: mean of its highest 5 % of patches (docs/references.md)
KEPT_SHARE = 0.5  # holds up to 40 % of damaged images with room for those that look good
MAX_STEPS = 5  # the half settles within two or three
# How far normal images may lie, read off the nearer half, where damaged ones are rare: its upper
# quartile and 2.2 of its interquartile ranges. In a clean bucket of normally distributed distances
# that keeps 93 %; with 40 % of damaged images it reaches 2.8 standard deviations.
QUARTILES = (0.125, 0.375)  # of all images: those of the nearer half
REACH = 2.2

MAX_LOOKS = 6
LEAST_LOOK, LOOK_SHARE = 8, 0.15  # images of a look, and their share: repeated damage is rarer
# How much farther, as a log ratio, the first look is from a fit on the second than from itself:
# -0.09 to 0.15 where the second is damage, 0.39 to 0.74 where it is another look.
LOOK_CONTRAST = 0.3
NUM_ASKED = 16  # images of each look


class Screen(NamedTuple):
    """A fit on the normal images of one look in a sample, and how far normal ones lie from it."""

    gaussian: Gaussian
    limit: float
    """Highest ``image_distance`` of an image that counts as normal."""

    def to(self, device: torch.device | str) -> Screen:
        """On another device."""
        return Screen(self.gaussian.to(device), self.limit)

    def excess(self, tokens: Tensor) -> Tensor:
        """How far images are beyond the limit, [M]; tokens [M, T, N, C]."""
        return image_distance(self.gaussian.distances(tokens)) - self.limit


def image_distance(distances: Tensor) -> Tensor:
    """Patch distances [M, N] → log of the mean of each image's highest 5 %, [M]."""
    count = max(1, round(PEAK_SHARE * distances.shape[1]))
    return distances.topk(count, dim=1).values.mean(dim=1).log()


def assign(screens: Sequence[Screen], tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The look that each image is nearest to [M], and whether it counts as normal there [M]."""
    nearest = torch.stack([screen.excess(tokens) for screen in screens]).min(dim=0)
    return nearest.indices, nearest.values <= 0


def find_looks(tokens: Tensor) -> list[Screen]:
    """What is normal among images of one category, a screen for each look.

    Args:
        tokens: [M, T, N, C], of ``normalise``; M ≥ 4.

    Raises:
        ValueError: tokens that are no use (``Gaussian.fit``).
    """
    least = max(LEAST_LOOK, round(LOOK_SHARE * len(tokens)))
    left = torch.arange(len(tokens), device=tokens.device)
    looks: list[Screen] = []
    known: list[tuple[Tensor, Sums]] = []
    while not looks or (len(left) >= least and len(looks) < MAX_LOOKS):
        found = screen(tokens[left])
        normal = found.excess(tokens[left]) <= 0
        sums = sum_up(tokens, left[normal])
        others = (_distance_back(tokens, *each, sums) for each in known)
        if looks and (normal.sum() < least or min(others) < LOOK_CONTRAST):
            break  # what is left of damage is more damage
        looks.append(found)
        known.append((left[normal], sums))
        left = left[~normal]
    return looks


def screen(tokens: Tensor) -> Screen:
    """The look of most images, [M, T, N, C]."""
    kept = torch.arange(len(tokens), device=tokens.device)
    for _ in range(MAX_STEPS):
        gaussian = Gaussian.fit(sum_up(tokens, kept))
        distance = image_distance(gaussian.distances(tokens))
        nearer = distance.argsort(stable=True)[: round(KEPT_SHARE * len(tokens))].sort().values
        if torch.equal(nearer, kept):
            break
        kept = nearer
    sums = sum_up(tokens, kept)
    gaussian = Gaussian.fit(sums)
    distance = image_distance(gaussian.distances(tokens))
    # Images in a fit are nearer to it than others as good: from here on, each by the others alone.
    distance[kept] = image_distance(left_out_distances(tokens[kept], sums))
    low, high = distance.double().quantile(distance.new_tensor(QUARTILES).double()).tolist()
    return Screen(gaussian, high + REACH * (high - low))


def _distance_back(tokens: Tensor, first: Tensor, own: Sums, other: Sums) -> float:
    """How much farther a look is from a fit on what is left than from itself, a log ratio."""
    asked = tokens[first[:NUM_ASKED]]
    there = image_distance(Gaussian.fit(other).distances(asked))
    return float(there.median() - image_distance(left_out_distances(asked, own)).median())
