"""Which images of an unlabelled bucket are normal, found without labels.

A fit on everything is bent by the damaged images in it, and still tells most of them apart. So:
fit, keep the nearer half, fit again, until the half stays; then let in whatever is as near as the
half promises good images to be. The second step of the minimum covariance determinant (Rousseeuw
and Van Driessen, Technometrics 1999), on whole images instead of points.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .gaussian import Gaussian
from .left_out import left_out_distances
from .sums import sum_up

PEAK_SHARE = 0.05  # an image's distance: mean of its highest 5 % of patches (docs/references.md)
KEPT_SHARE = 0.5  # holds up to 40 % of damaged images with room for those that look good
MAX_STEPS = 5  # the half settles within two or three
# How far normal images may lie, read off the nearer half, where damaged ones are rare: its upper
# quartile and 2.2 of its interquartile ranges. In a clean bucket of normally distributed distances
# that keeps 93 %; with 40 % of damaged images it reaches 2.8 standard deviations.
QUARTILES = (0.125, 0.375)  # of all images: those of the nearer half
REACH = 2.2


class Screen(NamedTuple):
    """A fit on the normal images of a sample, and how far normal images lie from it."""

    gaussian: Gaussian
    limit: float
    """Highest ``image_distance`` of an image that counts as normal."""

    def to(self, device: torch.device | str) -> Screen:
        """On another device."""
        return Screen(self.gaussian.to(device), self.limit)

    def passes(self, tokens: Tensor) -> Tensor:
        """Bool [M]: which images count as normal; tokens [M, T, N, C]."""
        return image_distance(self.gaussian.distances(tokens)) <= self.limit


def image_distance(distances: Tensor) -> Tensor:
    """Patch distances [M, N] → log of the mean of each image's highest 5 %, [M]."""
    return highest_mean(distances).log()


def highest_mean(values: Tensor) -> Tensor:
    """[M, N] → mean of each row's highest 5 %, [M]."""
    count = max(1, round(PEAK_SHARE * values.shape[1]))
    return values.topk(count, dim=1).values.mean(dim=1)


def screen(tokens: Tensor) -> Screen:
    """Find what is normal among images of one category.

    Args:
        tokens: [M, T, N, C], of ``normalise``; M ≥ 4.

    Raises:
        ValueError: tokens that are no use (``Gaussian.fit``).
    """
    kept = torch.arange(len(tokens), device=tokens.device)
    for _ in range(MAX_STEPS):
        gaussian = Gaussian.fit(sum_up(tokens, kept))
        distance = image_distance(gaussian.distances(tokens))
        nearer = distance.argsort(stable=True)[: round(KEPT_SHARE * len(tokens))].sort().values
        if torch.equal(nearer, kept):
            break
        kept = nearer
    gaussian = Gaussian.fit(sum_up(tokens, kept))
    distance = image_distance(gaussian.distances(tokens))
    # Images in a fit are nearer to it than others as good: from here on, each by the others alone.
    distance[kept] = image_distance(left_out_distances(tokens[kept], sum_up(tokens, kept)))
    low, high = distance.double().quantile(distance.new_tensor(QUARTILES).double()).tolist()
    return Screen(gaussian, high + REACH * (high - low))
