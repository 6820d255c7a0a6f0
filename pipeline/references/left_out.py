"""How far good images are from each other: each one judged by all the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .gaussian import Gaussian
from .sums import Sums, each_of

NUM_STRIPES = 8  # of a lone image


def left_out_distances(tokens: Tensor, total: Sums, each: Sequence[Sums] | None = None) -> Tensor:
    """How far each image's patches are from all the others' [M, N].

    Args:
        tokens: [M, T, N, C] of images that are in the sums.
        total: sums of these and possibly more images.
        each: M sums of the images, where they are known.
    """
    if total.num_images == 1:
        return _stripes(tokens[0])[None]
    own = each or each_of(tokens)
    judged = zip(tokens.split(1), own, strict=True)
    return torch.cat([Gaussian.fit(total - sums).distances(one) for one, sums in judged])


def _stripes(tokens: Tensor) -> Tensor:
    """A lone image has no others: every second stripe of it is judged by the stripes between.

    Args:
        tokens: [T, N, C].

    Returns:
        [N].
    """
    side = round(tokens.shape[1] ** 0.5)
    column = torch.arange(tokens.shape[1], device=tokens.device) % side
    even = column * NUM_STRIPES // side % 2 == 0
    distances = tokens.new_zeros(tokens.shape[1])
    for judged in (even, ~even):
        others = Gaussian.fit(Sums.of(tokens[None, :, ~judged]))
        distances[judged] = others.distances(tokens[None, :, judged])[0]
    return distances
