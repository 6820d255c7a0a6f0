"""From distances to logits that mean the same in every category, together with AdaCLIP's own.

Everything is measured on the references themselves, each judged by the others: what good images
reach is known then, and nothing of what damaged ones do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from .robust import image_distance

# A logit of 0, probability 0.5, is what one good image in a hundred exceeds: of a map, anywhere in
# it; of a score, by itself. Above, the odds grow as such good images become rarer.
RARE = 0.01
EULER = 0.5772  # mean of the standard Gumbel distribution

# Spreads that a few images can't tell: typical ones of generated lines and of photographs
# (docs/references.md), which count as much as PRIOR_IMAGES images.
PRIOR_IMAGES = 2
DISTANCE_SPREAD = 0.12  # of images' log distances
LOGIT_SPREAD = 2.0  # of AdaCLIP's logits of good images
SCORE_SPREAD = 1.0  # of standardised values of images, which have it by construction
PEAK_SPREAD = 0.35  # of images' highest patches, in standard deviations of patches
# A narrower one would make every map saturate, and float32 tell no two defects apart any more.
LEAST_SPREAD = 0.2

# How much the siblings are worth follows from how near good patches come to what shares nothing
# with them, as a log ratio of distances: 0.73 to 0.81 in free scenes, 0.77 to 0.92 (and once 1.5)
# where each picture shows another product, 0.93 to 1.7 on production lines, 1.2 of hazelnuts.
CONTRAST = (0.7, 1.0)
WEIGHT = (0.2, 0.9)  # of the distance at these ends; AdaCLIP's logit has the rest
# On maps, AdaCLIP keeps more where it raises no false alarm on good images. Two detectors count by
# how many of their own spreads lie between good patches and damaged ones: from LEAST_CONTRAST for
# distances, up to ALARM for AdaCLIP's logits, whose figures vary more between products.
LEAST_CONTRAST = 0.6
ALARM = 1.0  # logit
LOGIT_TRUST = 0.5


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of some values."""

    mean: float
    std: float

    @classmethod
    def of(cls, values: Tensor, prior: float | None = None) -> Spread:
        """Of values [n]; ``prior`` is a deviation that counts as much as a few of them."""
        values = values.double().flatten()
        variance, count = float(values.var(unbiased=False)), len(values)
        if prior is not None:
            variance = count * variance + PRIOR_IMAGES * prior**2
            variance /= count + PRIOR_IMAGES
        return cls(float(values.mean()), max(math.sqrt(variance), 1e-6))

    def standardise(self, values: Tensor) -> Tensor:
        """(values − mean) / std."""
        return (values - self.mean) / self.std

    def logit(self, values: Tensor) -> Tensor:
        """Log odds that no good image is as high, by Gumbel's law of extremes.

        P(a good image exceeds v) ≈ exp(−(v − location) / width) far above the mean, so that the
        log of RARE / P is linear in v.
        """
        return (values - self.mean) / self._width + EULER + math.log(RARE)

    def value_of(self, logit: float) -> float:
        """The value that has a ``logit``."""
        return self.mean + (logit - EULER - math.log(RARE)) * self._width

    @property
    def _width(self) -> float:
        return self.std * math.sqrt(6) / math.pi


class Judged(NamedTuple):
    """Images beside their references; float32."""

    logit_grid: Tensor
    """[B, N] of the map, together with AdaCLIP's."""
    score_logit: Tensor
    """[B] of the image, together with AdaCLIP's."""
    reference_logit: Tensor
    """[B] of the image by its distance alone."""


@dataclass(frozen=True)
class Scale:
    """How a category's distances and logits are read; all of it measured on good images."""

    image_weight: float
    """Of the distance in an image's score, 0 to 1."""
    patch_weight: float
    """Of the distance in its map."""
    patch_distance: Spread
    """Of all patches' log distances."""
    patch_logit: Spread
    """Of all patches' logits of AdaCLIP."""
    peak: Spread
    """Of images' highest patches, put together."""
    image_distance: Spread
    """Of images' log distances."""
    image_logit: Spread
    """Of images' logits of AdaCLIP."""
    score: Spread
    """Of images' scores, put together."""

    @classmethod
    def measure(cls, distances: Tensor, grids: Tensor, logits: Tensor, foreign: float) -> Scale:
        """From good images, each judged by the others.

        Args:
            distances: [M, N] of their patches.
            grids: [M, N] AdaCLIP's logits of the patches.
            logits: [M] AdaCLIP's logits of the images.
            foreign: distance of what shares nothing with them (``Gaussian.foreign_distance``).
        """
        patches = distances.log()
        parts = {
            "patch_distance": Spread.of(patches),
            "patch_logit": Spread.of(grids),
            "image_distance": Spread.of(image_distance(distances), DISTANCE_SPREAD),
            "image_logit": Spread.of(logits, LOGIT_SPREAD),
        }
        contrast = math.log(foreign) - float(patches.amax(dim=1).mean())
        if len(distances) == 1:  # it says nothing of what it shares with others: who gave it does
            contrast = CONTRAST[1]
        image_weight, patch_weight = _weights(contrast, float(grids.amax(dim=1).mean()), parts)
        one = Spread(0.0, 1.0)
        scale = cls(image_weight, patch_weight, **parts, peak=one, score=one)
        peaks = scale._patches(distances, grids).amax(dim=1)
        scores = scale._images(distances, logits)
        return cls(
            image_weight,
            patch_weight,
            **parts,
            peak=_at_least(Spread.of(peaks, PEAK_SPREAD)),
            score=_at_least(Spread.of(scores, SCORE_SPREAD)),
        )

    def judge(self, distances: Tensor, grids: Tensor, logits: Tensor) -> Judged:
        """Read the distances of images, together with AdaCLIP's logits.

        Args:
            distances: [B, N] of their patches.
            grids: [B, N] AdaCLIP's logits of the patches.
            logits: [B] AdaCLIP's logits of the images.
        """
        return Judged(
            self.peak.logit(self._patches(distances, grids)),
            self.score.logit(self._images(distances, logits)),
            self.image_distance.logit(image_distance(distances)),
        )

    def _patches(self, distances: Tensor, grids: Tensor) -> Tensor:
        distance = self.patch_distance.standardise(distances.log())
        logit = self.patch_logit.standardise(grids)
        return self.patch_weight * distance + (1 - self.patch_weight) * logit

    def _images(self, distances: Tensor, logits: Tensor) -> Tensor:
        distance = self.image_distance.standardise(image_distance(distances))
        logit = self.image_logit.standardise(logits)
        return self.image_weight * distance + (1 - self.image_weight) * logit


def _weights(contrast: float, alarm: float, spreads: dict[str, Spread]) -> tuple[float, float]:
    """Of the distance, for images and for patches; chosen over all measured sets, not on one.

    Args:
        contrast: log ratio of ``foreign`` to good images' highest patches.
        alarm: mean of AdaCLIP's highest logit in good images.
    """
    share = (contrast - CONTRAST[0]) / (CONTRAST[1] - CONTRAST[0])
    for_images = WEIGHT[0] + (WEIGHT[1] - WEIGHT[0]) * min(max(share, 0.0), 1.0)
    told = max(contrast - LEAST_CONTRAST, 1e-3) / spreads["patch_distance"].std
    said = LOGIT_TRUST * max(ALARM - alarm, 0.0) / spreads["patch_logit"].std
    return for_images, min(for_images, told / (told + said))


def _at_least(spread: Spread) -> Spread:
    return Spread(spread.mean, max(spread.std, LEAST_SPREAD))
