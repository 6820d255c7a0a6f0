"""Pixels as an image tower takes them, on the device that computes."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .decoding import MEAN, RGB, STD


def normalise_(pixels: Tensor, mean: RGB = MEAN, std: RGB = STD) -> Tensor:
    """Subtract the mean and divide by the standard deviation, in place; returns the argument.

    Args:
        pixels: float [..., 3, H, W], RGB in [0, 1].
        mean, std: of a model's ``pixels``.
    """
    means, deviations = _statistics(mean, std, pixels.device, pixels.dtype)
    return pixels.sub_(means).div_(deviations)


@cache  # on a GPU, what makes a tensor of Python numbers waits for it
def _statistics(
    mean: RGB, std: RGB, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    means, deviations = torch.tensor((mean, std), device=device, dtype=dtype)[:, :, None, None]
    return means, deviations
