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

from .gaussian import LEAST_SPREAD, Gaussian
from .left_out import left_out_distances
from .sums import Sums, each_of, sum_up

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
# -0.09 to 0.15 where the second is damage, but for one line, 0.39 to 0.74 where it is another look.
LOOK_CONTRAST = 0.3
# How much farther its images are from each other than those of the first: 0.07 to 0.3 where it is
# damage, -0.11 to 0.07 where it is another look.
LOOK_UNLIKENESS = 0.12
BLANK = "all patches of the reference images are the same; are they blank?"
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
        """How far images are beyond the limit, [M]; tokens [M, T, N, C]. Blank ones: infinitely."""
        beyond = image_distance(self.gaussian.distances(tokens)) - self.limit
        return beyond.masked_fill(is_blank(tokens), torch.inf)


def image_distance(distances: Tensor) -> Tensor:
    """Patch distances [M, N] → log of the mean of each image's highest 5 %, [M]."""
    count = max(1, round(PEAK_SHARE * distances.shape[1]))
    return distances.topk(count, dim=1).values.mean(dim=1).log()


def is_blank(tokens: Tensor) -> Tensor:
    """Which images are one patch everywhere, as a camera's frames of nothing; bool [M].

    Some of them are alike enough to look normal to each other.

    Args:
        tokens: [M, T, N, C], of ``normalise``.
    """
    spread = 1 - tokens.double().mean(dim=2).square().sum(dim=-1)  # of unit vectors, [M, T]
    return (spread < LEAST_SPREAD).any(dim=1)


def assign(screens: Sequence[Screen], tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The look that each image is nearest to [M], and whether it counts as normal there [M].

    Without screens there is one look, and all of it is normal.
    """
    if not screens:
        look = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
        return look, look == 0
    nearest = torch.stack([screen.excess(tokens) for screen in screens]).min(dim=0)
    return nearest.indices, nearest.values <= 0


def find_looks(tokens: Tensor, each: Sequence[Sums] | None = None) -> list[Screen]:
    """What is normal among images of one category, a screen for each look.

    Args:
        tokens: [M, T, N, C], of ``normalise``; M ≥ 4.
        each: M sums of the images, where they are known.

    Raises:
        ValueError: tokens that are no use (``Gaussian.fit``).
    """
    each = each or each_of(tokens)
    least = max(LEAST_LOOK, round(LOOK_SHARE * len(tokens)))
    left = (~is_blank(tokens)).nonzero().flatten().tolist()
    if not left:
        raise ValueError(BLANK)
    looks: list[Screen] = []
    known: list[_Found] = []
    while not looks or (len(left) >= least and len(looks) < MAX_LOOKS):
        screen = _screen(tokens, each, left)
        normal = [i for i, far in zip(left, screen.excess(tokens[left]), strict=True) if far <= 0]
        found = _Found.of(tokens, each, normal)
        if looks and (len(normal) < LEAST_LOOK or not all(each.differs(found) for each in known)):
            break  # what is left of damage is more damage
        looks.append(screen)
        known.append(found)
        left = [i for i in left if i not in normal]
    return looks


def _screen(tokens: Tensor, each: Sequence[Sums], among: Sequence[int]) -> Screen:
    """The look of most images.

    Args:
        tokens: [M, T, N, C].
        each: M sums of the images.
        among: which images are looked at.
    """
    kept: Sequence[int] = among
    # Each by the others alone: an image of a single patch would make its own place in the fit.
    distances = left_out_distances(tokens[among], sum_up(each, among), [each[i] for i in among])
    for _ in range(MAX_STEPS):
        distance = image_distance(distances)
        order = distance.argsort(stable=True)[: round(KEPT_SHARE * len(among))]
        nearer = [among[i] for i in order.sort().values.tolist()]
        if nearer == kept:
            break
        kept = nearer
        distances = Gaussian.fit(sum_up(each, kept)).distances(tokens[among])
    sums = sum_up(each, kept)
    gaussian = Gaussian.fit(sums)
    distance = image_distance(gaussian.distances(tokens[among])).double()
    # Images in a fit are nearer to it than others as good: from here on, each by the others alone.
    inner = left_out_distances(tokens[kept], sums, [each[i] for i in kept])
    distance[[among.index(i) for i in kept]] = image_distance(inner).double()
    low, high = distance.quantile(distance.new_tensor(QUARTILES)).tolist()
    return Screen(gaussian, high + REACH * (high - low))


class _Found(NamedTuple):
    """A look, or what may be one."""

    sums: Sums
    tokens: Tensor
    """[n, T, N, C] of some of its images."""
    spread: float
    """How far its images are from each other: median of their image distances."""

    @classmethod
    def of(cls, tokens: Tensor, each: Sequence[Sums], images: Sequence[int]) -> _Found:
        sums, asked = sum_up(each, images), images[:NUM_ASKED]
        if not images:
            return cls(sums, tokens[:0], torch.inf)
        inner = left_out_distances(tokens[asked], sums, [each[i] for i in asked])
        return cls(sums, tokens[asked], float(image_distance(inner).median()))

    def differs(self, other: _Found) -> bool:
        """Whether what was found later is another look, and not damage."""
        back = image_distance(Gaussian.fit(other.sums).distances(self.tokens))
        is_other = float(back.median()) - self.spread > LOOK_CONTRAST
        return is_other and other.spread - self.spread < LOOK_UNLIKENESS
