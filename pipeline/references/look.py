"""One look of a category: a colour, a side, a product of the same name. Most have one look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .gaussian import Gaussian
from .robust import Screen
from .scale import Scale
from .sums import Sums, pack, unpack


@dataclass(frozen=True)
class Readings:
    """What good images read, each judged by the others; the scale follows from it."""

    distances: Tensor
    """[M, N] of their patches."""
    grids: Tensor
    """[M, N] AdaCLIP's logits of the patches."""
    logits: Tensor
    """[M] AdaCLIP's logits of the images."""

    def __add__(self, other: Readings) -> Readings:
        """Both."""
        return Readings(
            torch.cat([self.distances, other.distances]),
            torch.cat([self.grids, other.grids]),
            torch.cat([self.logits, other.logits]),
        )

    def first(self, count: int) -> Readings:
        """At most so many."""
        return Readings(self.distances[:count], self.grids[:count], self.logits[:count])

    def rounded(self) -> Readings:
        """As the file holds them: half precision, so that a set is the same before and after."""
        return Readings(*(each.half().cpu() for each in (self.distances, self.grids, self.logits)))


@dataclass(frozen=True)
class Look:
    """What is kept of the images of a look."""

    sums: Sums
    readings: Readings

    def scale(self, gaussian: Gaussian | None = None) -> Scale:
        """How distances from this look are read.

        Args:
            gaussian: of the sums, where it is known: a fit takes longest.
        """
        return Scale.measure(
            self.readings.distances.float(),
            self.readings.grids.float(),
            self.readings.logits.float(),
            (gaussian or Gaussian.fit(self.sums)).foreign_distance,
        )

    def screen(self) -> Screen:
        """What counts as normal to this look: what one in a hundred good images exceeds."""
        gaussian = Gaussian.fit(self.sums)
        return Screen(gaussian, self.scale(gaussian).image_distance.value_of(0.0))

    def tensors(self) -> dict[str, Tensor]:
        """For a file; floats of the covariance become float32, which moves no distance by 1e-5."""
        mean, covariance = self.sums.moments()
        return {
            "counts": torch.tensor([self.sums.num_images, self.sums.num_patches]),
            "mean": mean,
            "covariance": pack(covariance).float(),
            "distances": self.readings.distances,
            "grids": self.readings.grids,
            "logits": self.readings.logits,
        }

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Look:
        """What ``tensors`` gave.

        Raises:
            KeyError, RuntimeError: they are damaged.
        """
        num_images, num_patches = tensors["counts"].tolist()
        mean = tensors["mean"]
        covariance = unpack(tensors["covariance"], mean.shape[1])
        sums = Sums.of_moments(num_images, num_patches, mean, covariance)
        names = ("distances", "grids", "logits")
        return cls(sums, Readings(*(tensors[name] for name in names)))
