"""How far good images are from each other: each one judged by all the others."""

from __future__ import annotations

import torch
from torch import Tensor

from .gaussian import Gaussian
from .sums import Sums

NUM_STRIPES = 8  # of a lone image


def left_out_distances(tokens: Tensor, total: Sums) -> Tensor:
    """How far each image's patches are from all the others' [M, N].

    Args:
        tokens: [M, T, N, C] of images that are in the sums.
        total: sums of these and possibly more images.
    """
    if total.num_images == 1:
        return _stripes(tokens[0])[None]
    return torch.cat(
        [Gaussian.fit(total - Sums.of(each)).distances(each) for each in tokens.split(1)]
    )


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
