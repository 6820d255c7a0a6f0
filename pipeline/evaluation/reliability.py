"""Scores as probabilities: how far they are from shares of abnormal images, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

NUM_BINS = 10  # of a reliability diagram, as usual (Guo et al., ICML 2017)


class Bin(NamedTuple):
    """Images whose score lies in one interval."""

    images: int
    score: float
    """Mean of their scores."""
    abnormal: float
    """Share of them that are abnormal: the mean score, if scores are probabilities."""


def reliability(scores: NDArray[np.floating], labels: NDArray[Any]) -> list[Bin]:
    """A reliability diagram: the images in intervals of equal width, empty ones left out.

    Args:
        scores: [n] in [0, 1].
        labels: [n], 1 abnormal, 0 good.
    """
    bins = np.minimum((scores * NUM_BINS).astype(int), NUM_BINS - 1)
    return [
        Bin(int(here.sum()), float(scores[here].mean()), float(labels[here].mean()))
        for here in (bins == number for number in np.unique(bins))
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error (ECE) in [0, 1]: the mean distance of score and share, weighted
    by images (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017)."""
    total = sum(each.images for each in bins)
    return sum(each.images * abs(each.score - each.abnormal) for each in bins) / total


class Calibration(NamedTuple):
    """What turns a score's logit into one whose sigmoid is a probability."""

    scale: float
    """Positive, so that no order changes."""
    shift: float


def fit_calibration(logits: NDArray[np.floating], labels: NDArray[Any]) -> Calibration | None:
    """Platt's scaling of logits (Platt, "Probabilistic Outputs for Support Vector Machines", 1999).

    Args:
        logits: [n] of images that the model was not trained on.
        labels: [n], 1 abnormal, 0 good.

    Returns:
        The most likely scale and shift, with Platt's prior, by which also images that the score
        separates wholly give a finite one. None where there are not both kinds of images, or where
        a higher score tells of fewer abnormal ones.
    """
    logits, abnormal = logits.astype(np.float64), labels == 1
    positives, negatives = int(abnormal.sum()), int((~abnormal).sum())
    if not positives or not negatives:
        return None
    target = np.where(abnormal, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    unit = max(float(np.abs(logits).max()), 1e-6)  # the optimiser's steps begin at about 1

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = parameters[0] * logits / unit + parameters[1]
        error = expit(z) - target
        gradient = np.array([(error * logits / unit).mean(), error.mean()])
        return float((np.logaddexp(0, z) - target * z).mean()), gradient

    scale, shift = minimize(loss, np.array([unit, 0.0]), jac=True, method="BFGS").x
    return Calibration(float(scale / unit), float(shift)) if scale > 0 else None
