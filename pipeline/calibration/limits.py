"""Thresholds from known-good images, with what their number allows to promise.

An image is above a threshold if its value is **greater** than it. A threshold is one of the good
images' own values, an order statistic, so nothing is assumed of how they are distributed: only that
the images to come are drawn like those of the sample, independently of each other.

With n good images, the share of good images above the k-th smallest value is Beta(n - k + 1, k)
distributed, or smaller where values tie, so that the share is at most p with confidence c if
P(Binomial(n, p) <= n - k) <= 1 - c: the one-sided tolerance bound of S. S. Wilks, "Determination of
Sample Sizes for Setting Tolerance Limits" (1941), and of C. Clopper and E. Pearson, "The Use of
Confidence or Fiducial Limits" (1934). Each promise is for one category and one measure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from pipeline.errors import ExpectedError

Share = Annotated[float, Field(ge=0, le=1)]
Value = Annotated[float, Field(allow_inf_nan=False)]


class CalibrationError(ExpectedError, ValueError):
    """Images that can't be calibrated with, or thresholds that can't be used."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A threshold from good images alone."""

    value: Value
    """The largest of the good images' values that is needed for the wanted rate, or the largest of
    all where they are too few."""
    num_images: Annotated[int, Field(ge=1)]
    """Good images."""
    num_above: int
    """Those of them that are above."""
    bound: Share
    """At most this share of good images is above, with the calibration's confidence."""

    @property
    def expected(self) -> float:
        """Expected share of good images above."""
        return (self.num_above + 1) / (self.num_images + 1)


@dataclass(frozen=True, kw_only=True)
class BestF1:
    """The threshold with the highest F1 on labelled images, measured on the same images."""

    value: Value
    f1: Share
    precision: Share
    recall: Share
    num_good: int
    num_abnormal: int


def images_needed(false_alarm_rate: float, confidence: float) -> int:
    """The smallest sample whose largest value keeps a false-alarm rate with a confidence.

    Raises:
        CalibrationError: one of them is not between 0 and 1.
    """
    check_shares(false_alarm_rate, confidence)
    return math.ceil(math.log1p(-confidence) / math.log1p(-false_alarm_rate))


def find_limit(values: ArrayLike, false_alarm_rate: float, confidence: float) -> Limit:
    """The smallest of good images' values that keeps a false-alarm rate with a confidence.

    Where the sample is too small for that, its largest value, with the rate that this keeps.

    Args:
        values: [n] of good images.
        false_alarm_rate: largest wanted share of good images above, in (0, 1).
        confidence: that the share is kept, in (0, 1).

    Raises:
        CalibrationError: there is no value, one is not finite, or a share is none.
    """
    # Not above: every night reads limits, and few make any. scipy.stats would take a second.
    from scipy.special import bdtr, bdtrik, betaincinv

    check_shares(false_alarm_rate, confidence)
    ordered = np.sort(_finite(values))
    count = len(ordered)
    # The most values that may be above: P(Binomial(n, rate) <= above) <= 1 - confidence.
    above = math.ceil(np.nan_to_num(bdtrik(1 - confidence, count, false_alarm_rate)))
    while above > 0 and bdtr(above, count, false_alarm_rate) > 1 - confidence:
        above -= 1
    value = ordered[count - 1 - above]
    return Limit(
        value=float(value),
        num_images=count,
        num_above=int(np.count_nonzero(ordered > value)),
        bound=float(betaincinv(above + 1, count - above, confidence)),
    )


def find_best_f1(values: ArrayLike, labels: ArrayLike) -> BestF1:
    """The threshold with the highest F1; the highest of several.

    It lies between two values that occur, so that both keep their side.

    Args:
        values: [n].
        labels: [n], 1 abnormal, 0 good.

    Raises:
        CalibrationError: a value is not finite, or there are not both good and abnormal images.
    """
    numbers, is_abnormal = _finite(values), np.asarray(labels) == 1
    num_abnormal = int(is_abnormal.sum())
    num_good = len(numbers) - num_abnormal
    if not num_abnormal or not num_good:
        raise CalibrationError("max-F1 needs both good and abnormal images")
    distinct, group = np.unique(numbers, return_inverse=True)
    positives = np.bincount(group[is_abnormal], minlength=len(distinct))[::-1].cumsum()
    negatives = np.bincount(group[~is_abnormal], minlength=len(distinct))[::-1].cumsum()
    f1 = 2 * positives / (num_abnormal + positives + negatives)
    best = int(f1.argmax())
    lowest = distinct[::-1][best]
    below = distinct[::-1][best + 1] if best + 1 < len(distinct) else np.float32(-1)
    middle = np.float32((float(lowest) + float(below)) / 2)
    return BestF1(
        value=float(middle if below <= middle < lowest else below),
        f1=float(f1[best]),
        precision=float(positives[best] / (positives[best] + negatives[best])),
        recall=float(positives[best] / num_abnormal),
        num_good=num_good,
        num_abnormal=num_abnormal,
    )


def _finite(values: ArrayLike) -> NDArray[np.float32]:
    numbers = np.asarray(values, dtype=np.float32)
    if not len(numbers) or not np.isfinite(numbers).all():
        raise CalibrationError("a value is not a finite number, or there is none")
    return numbers


def check_shares(false_alarm_rate: float, confidence: float) -> None:
    """Raises CalibrationError unless both are between 0 and 1."""
    for name, value in (("false_alarm_rate", false_alarm_rate), ("confidence", confidence)):
        if not 0 < value < 1:
            raise CalibrationError(f"{name} is {value:g}; it must be between 0 and 1")
