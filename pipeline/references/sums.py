"""Sufficient statistics of patch tokens: they add up over images, workers and nights, in any order.

Letters: M images, T layers, N patches, C width, G looks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sums:
    """n, Σx and Σxxᵀ of the patch tokens of some images, of each layer; float64."""

    num_images: int
    num_patches: int
    first: Tensor
    """[T, C] Σx."""
    second: Tensor
    """[T, C, C] Σxxᵀ."""

    @classmethod
    def of(cls, tokens: Tensor) -> Sums:
        """Of the patches of images.

        Args:
            tokens: [M, T, N, C], of ``normalise``.
        """
        per_layer = tokens.transpose(0, 1).flatten(1, 2).double()  # [T, M·N, C]
        second = per_layer.mT @ per_layer
        return cls(len(tokens), per_layer.shape[1], per_layer.sum(dim=1), second)

    @classmethod
    def of_moments(
        cls, num_images: int, num_patches: int, mean: Tensor, covariance: Tensor
    ) -> Sums:
        """The sums that ``moments`` came from."""
        mean, covariance = mean.double(), covariance.double()
        second = num_patches * (covariance + mean[:, :, None] * mean[:, None])
        return cls(num_images, num_patches, num_patches * mean, second)

    def to(self, device: torch.device | str) -> Sums:
        """On another device."""
        return replace(self, first=self.first.to(device), second=self.second.to(device))

    def __add__(self, other: Sums) -> Sums:
        """Those of both."""
        return Sums(
            self.num_images + other.num_images,
            self.num_patches + other.num_patches,
            self.first + other.first,
            self.second + other.second,
        )

    def __sub__(self, other: Sums) -> Sums:
        """Those without some of the images."""
        return Sums(
            self.num_images - other.num_images,
            self.num_patches - other.num_patches,
            self.first - other.first,
            self.second - other.second,
        )

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean [T, C] and covariance [T, C, C]."""
        mean = self.first / self.num_patches
        return mean, self.second / self.num_patches - mean[:, :, None] * mean[:, None]


def sum_up(tokens: Tensor, chosen: Tensor) -> Sums:
    """The sums of some images, one after the other, so that float64 copies stay small."""
    total = Sums.of(tokens[chosen[:1]])
    for i in chosen[1:]:
        total += Sums.of(tokens[i : i + 1])
    return total


def pack(symmetric: Tensor) -> Tensor:
    """[T, C, C] symmetric → [T, C·(C+1)/2], its upper triangles."""
    rows, columns = torch.triu_indices(symmetric.shape[-1], symmetric.shape[-1])
    return symmetric[:, rows, columns]


def unpack(packed: Tensor, width: int) -> Tensor:
    """What ``pack`` packed, [T, C, C]."""
    rows, columns = torch.triu_indices(width, width)
    full = packed.new_zeros(len(packed), width, width)
    full[:, rows, columns] = packed
    full[:, columns, rows] = packed
    return full
