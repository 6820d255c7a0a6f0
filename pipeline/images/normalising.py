"""Pixels as CLIP's image tower takes them, on the device that computes."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .decoding import MEAN, STD


def normalise_(pixels: Tensor) -> Tensor:
    """Subtract CLIP's mean and divide by its standard deviation, in place; returns the argument.

    Args:
        pixels: float [..., 3, H, W], RGB in [0, 1].
    """
    mean, std = _statistics(pixels.device, pixels.dtype)
    return pixels.sub_(mean).div_(std)


@cache  # on a GPU, what makes a tensor of Python numbers waits for it
def _statistics(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    mean, std = torch.tensor((MEAN, STD), device=device, dtype=dtype)[:, :, None, None]
    return mean, std
