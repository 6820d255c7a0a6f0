"""Has the distribution of scores changed? One test for each category."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .samples import Sample

# Share of the reported categories that may be false alarms, if nothing else changed.
FALSE_DISCOVERY_RATE = 0.01
# With the 100,000 images that a sample may hold, a difference of 0.007 is significant: two lots of
# the same product differ by more. From 0.1 on, a tenth of the images lies on another side of some
# score than before, which is a change of product, light or camera that a person would see.
MIN_STATISTIC = 0.1
MIN_IMAGES = 30  # on either side: with fewer, the test's p-value is no good approximation


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One category's comparison with past nights; the defaults are no difference between none."""

    category: str
    images: int = 0
    past_images: int = 0
    statistic: float = 0.0
    """Kolmogorov-Smirnov: largest difference of the two cumulative distributions, 0 to 1."""
    p_value: float = 1.0
    """Adjusted for the number of categories."""
    median: float = 0.0
    past_median: float = 0.0
    drifted: bool = False


def compare(tonight: Mapping[str, Sample], past: Mapping[str, Sample]) -> list[Drift]:
    """Two-sample Kolmogorov-Smirnov test of tonight's scores against past nights', by category.

    A category has drifted if its p-value, adjusted by Benjamini and Hochberg for testing many
    categories, is below 0.01, **and** the statistic is at least 0.1. The second condition decides
    where there are many images: then any difference is significant, however small. The first one
    decides where there are few: with 200 images on either side, 0.1 is no rare difference.

    Larger nights are compared by samples (``samples.SAMPLE_SIZE`` images of either side).
    Categories with fewer than 30 images on either side are left out.

    Returns:
        The compared categories, the largest statistic first.
    """
    pairs = {
        category: (sample, past[category])
        for category, sample in tonight.items()
        if category in past and min(sample.num_images, past[category].num_images) >= MIN_IMAGES
    }
    if not pairs:
        return []
    from scipy.stats import false_discovery_control, ks_2samp  # 1.6 s, and few nights compare

    compared = []
    for category, (sample, before) in pairs.items():
        # The exact p-value takes seconds for 10,000 images, and agrees where it matters.
        scores, old = sample.values("score"), before.values("score")
        test = ks_2samp(scores, old, method="asymp")
        compared.append((category, sample, before, float(test.statistic), float(test.pvalue)))
    adjusted = false_discovery_control([row[-1] for row in compared], method="bh")
    found = [
        Drift(
            category=category,
            images=sample.num_images,
            past_images=before.num_images,
            statistic=statistic,
            p_value=float(p_value),
            median=float(np.median(sample.values("score"))),
            past_median=float(np.median(before.values("score"))),
            drifted=bool(p_value < FALSE_DISCOVERY_RATE and statistic >= MIN_STATISTIC),
        )
        for (category, sample, before, statistic, _), p_value in zip(
            compared, adjusted, strict=True
        )
    ]
    return sorted(found, key=lambda drift: (-drift.statistic, drift.category))
