"""AUROC, average precision, max-F1 and areas under curves, from counts in order of the score.

All functions take the negatives and positives of groups of equal scores, highest score first, as
arrays [k]. Groups may also stand for scores that were put into one bin: the value is then that of
the binned scores, and its ``error`` bounds how far the value of the scores themselves can be away.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Steps = NDArray[np.int64] | NDArray[np.float64]


class Estimate(NamedTuple):
    """A metric and the most by which it can differ from that of the unbinned scores."""

    value: float
    """In [0, 1]."""
    error: float
    """0 if every group is a genuine tie."""


def image_metrics(scores: NDArray[np.floating], labels: NDArray[Any]) -> dict[str, float]:
    """AUROC, average precision (AP) and max-F1 of image scores, as scikit-learn defines them.

    Args:
        scores: [n], higher is more abnormal.
        labels: [n], 1 abnormal, 0 good.

    Returns:
        ``image_auroc``, ``image_ap``, ``image_max_f1`` in [0, 1]; NaN unless there are both good
        and abnormal images.

    Raises:
        ValueError: a score is not a number, or a label neither 0 nor 1.
    """
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 (good) and 1 (abnormal)")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN; leave out images without a score")
    values, group = np.unique(scores, return_inverse=True)
    positives = np.bincount(group[labels == 1], minlength=len(values))[::-1]
    negatives = np.bincount(group[labels != 1], minlength=len(values))[::-1]
    if not positives.any() or not negatives.any():
        return dict.fromkeys(("image_auroc", "image_ap", "image_max_f1"), np.nan)
    ties = np.ones(len(values), dtype=bool)
    return {
        "image_auroc": area_under_curve(negatives, positives, ties).value,
        "image_ap": average_precision(negatives, positives, ties).value,
        "image_max_f1": max_f1(negatives, positives, ties).value,
    }


def area_under_curve(
    x_steps: Steps, y_steps: Steps, ties: NDArray[np.bool_], limit: float = 1.0
) -> Estimate:
    """Area under the curve of summed steps, both axes scaled to [0, 1], divided by the limit.

    With negatives and positives as steps this is the AUROC. Inside a group that is no tie the
    curve is only known to rise from its left to its right end, so its area lies between those of
    the two rectangles.

    Args:
        x_steps, y_steps: [k], not negative, each with a positive sum.
        ties: [k], true where all scores of the group are equal: there the curve is a line.
        limit: integrate x up to here, interpolating linearly.
    """
    x0, x1 = _scaled(x_steps)
    y0, y1 = _scaled(y_steps)
    width = np.clip(limit - x0, 0, x1 - x0)
    share = np.divide(width, x1 - x0, out=np.zeros_like(width), where=x1 > x0)
    area = float((width * (y0 + 0.5 * share * (y1 - y0))).sum())
    unsure = np.where(ties, 0, width * (y1 - y0))
    below = float((unsure * 0.5 * share).sum())
    above = float((unsure * (1 - 0.5 * share)).sum())
    return Estimate(area / limit, max(below, above) / limit)


def average_precision(negatives: Counts, positives: Counts, ties: NDArray[np.bool_]) -> Estimate:
    """Sum over thresholds of precision times the rise of recall.

    In a group that is no tie, precision is highest if its positives come first, all equal, and
    lowest if all its negatives come first, then one positive after the other.
    """
    true, false = np.cumsum(positives), np.cumsum(negatives)
    some = positives > 0
    positives, negatives, ties = positives[some], negatives[some], ties[some]
    true, false = true[some].astype(np.float64), false[some].astype(np.float64)
    value = positives * true / (true + false)
    highest = positives * true / (true + false - negatives)
    # The lowest is the sum over j = 1..p of (a + j) / (b + j) = 1 − (b − a) / (b + j), where a
    # counts the positives and b everything before; 1 / (b + j) is convex, so it is at most its
    # mean over [j − ½, j + ½], and the sum at most a logarithm.
    before = true - positives + false
    lowest = positives - false * np.log1p(positives / (before + 0.5))
    total = float(positives.sum())
    above = float(np.where(ties, 0, highest - value).sum()) / total
    below = float(np.where(ties, 0, np.maximum(value - lowest, 0)).sum()) / total
    return Estimate(float(value.sum()) / total, max(above, below))


def max_f1(negatives: Counts, positives: Counts, ties: NDArray[np.bool_]) -> Estimate:
    """Highest F1 over all thresholds.

    The ends of the groups are thresholds of the scores themselves, so the value can only be too
    low: by what the positives of a group that is no tie would gain if they came first.
    """
    true, false = np.cumsum(positives), np.cumsum(negatives)
    relevant = true[-1]
    value = float((2 * true / (relevant + true + false)).max())
    highest = 2 * true / (relevant + true + false - np.where(ties, 0, negatives))
    return Estimate(value, float(highest.max()) - value)


def _scaled(steps: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left and right ends [k] of the steps' running sum, scaled to end at 1."""
    ends = np.concatenate([[0], np.cumsum(steps)])
    scaled = ends / ends[-1]
    return scaled[:-1], scaled[1:]
