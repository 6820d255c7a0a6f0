"""The promise of a threshold holds as often as it says, for any distribution and sample size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import f1_score

from pipeline.calibration import CalibrationError, find_best_f1, find_limit, images_needed

RUNS = 4_000


@pytest.mark.parametrize(
    ("count", "rate", "confidence"),
    [(300, 0.01, 0.9), (1_000, 0.01, 0.95), (500, 0.05, 0.95), (60, 0.05, 0.95), (200, 0.02, 0.5)],
)
def test_the_promised_confidence_holds(count: int, rate: float, confidence: float) -> None:
    """Of many samples, at most 1 - confidence give a threshold with too many false alarms."""
    rng = np.random.default_rng(count)
    # Uniform values: the share of good images above a threshold t is 1 - t.
    samples = rng.random((RUNS, count))
    limits = [find_limit(sample, rate, confidence) for sample in samples]
    kept = np.mean([1 - limit.value <= rate for limit in limits])
    error = 4 * np.sqrt(confidence * (1 - confidence) / RUNS)
    assert kept >= confidence - error
    # Nor is it wastefully high: one more good image above would break the promise.
    above = max(limit.num_above for limit in limits)  # fewer only where float32 values tie
    assert binom.cdf(above, count, rate) <= 1 - confidence < binom.cdf(above + 1, count, rate)
    bound = limits[0].bound
    assert bound <= rate
    assert np.mean([1 - limit.value <= bound for limit in limits]) == pytest.approx(
        confidence, abs=error
    )


@pytest.mark.parametrize("count", [1, 5, 40])
def test_too_small_a_sample_says_what_it_can_and_no_more(count: int) -> None:
    rng = np.random.default_rng(0)
    samples = rng.random((RUNS, count))
    limits = [find_limit(sample, 0.01, 0.95) for sample in samples]
    assert {limit.num_above for limit in limits} == {0}
    bound = limits[0].bound
    assert bound == pytest.approx(1 - 0.05 ** (1 / count))
    assert bound > 0.01
    kept = np.mean([1 - limit.value <= bound for limit in limits])
    assert kept == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("rate", "confidence", "needed"), [(0.05, 0.95, 59), (0.01, 0.95, 299), (0.001, 0.95, 2_995)]
)
def test_the_number_needed_is_the_smallest_that_is_enough(
    rate: float, confidence: float, needed: int
) -> None:
    """59 and 299 are the textbook's (Wilks)."""
    assert images_needed(rate, confidence) == needed
    assert find_limit(np.arange(needed), rate, confidence).bound <= rate
    assert find_limit(np.arange(needed - 1), rate, confidence).bound > rate


def test_ties_never_break_the_promise() -> None:
    """Values on a coarse grid: the share above a threshold is that of the higher grid points."""
    rng = np.random.default_rng(1)
    chances = rng.dirichlet(np.ones(12))
    kept = 0
    for _ in range(RUNS):
        limit = find_limit(rng.choice(12, 300, p=chances), 0.05, 0.95)
        kept += chances[int(limit.value) + 1 :].sum() <= 0.05
        assert limit.num_above <= 8
    assert kept / RUNS >= 0.95


def test_equal_values_are_their_own_threshold_and_none_is_above() -> None:
    limit = find_limit([0.0] * 400, 0.01, 0.95)
    assert (limit.value, limit.num_above) == (0.0, 0)
    assert limit.bound <= 0.01


def test_the_threshold_is_one_of_the_values_exactly() -> None:
    values = np.random.default_rng(0).random(1_000, dtype=np.float32)
    limit = find_limit(values, 0.02, 0.95)
    assert np.float32(limit.value) in values
    assert (values > limit.value).sum() == limit.num_above
    assert limit.expected == pytest.approx((limit.num_above + 1) / 1_001)


@pytest.mark.parametrize("values", [[], [0.1, np.nan], [np.inf, 0.2]])
def test_values_that_are_no_numbers_are_refused(values: list[float]) -> None:
    with pytest.raises(CalibrationError, match="not a finite number, or there is none"):
        find_limit(values, 0.01, 0.95)


@pytest.mark.parametrize(("rate", "confidence"), [(0, 0.9), (1, 0.9), (0.1, 1), (np.nan, 0.5)])
def test_a_share_that_is_none_is_refused(rate: float, confidence: float) -> None:
    with pytest.raises(CalibrationError, match="must be between 0 and 1"):
        find_limit([0.5], rate, confidence)
    with pytest.raises(CalibrationError, match="must be between 0 and 1"):
        images_needed(rate, confidence)


@pytest.mark.parametrize("seed", range(20))
def test_max_f1_is_the_best_of_all_thresholds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(60) < 0.3
    labels[:2] = [True, False]
    values = (rng.integers(0, 20, 60) / 20 + 0.3 * labels).astype(np.float32)
    best = find_best_f1(values, labels.astype(int))
    at = {t: f1_score(labels, values > t) for t in [-1, *values]}
    assert best.f1 == pytest.approx(max(at.values()))
    above = values > np.float32(best.value)
    assert f1_score(labels, above) == pytest.approx(best.f1)
    assert best.recall == pytest.approx((above & labels).sum() / labels.sum())
    assert best.precision == pytest.approx((above & labels).sum() / above.sum())
    assert (best.num_good, best.num_abnormal) == ((~labels).sum(), labels.sum())


def test_max_f1_lies_between_the_values_even_if_they_are_neighbours() -> None:
    good = np.float32(0.5)
    abnormal = np.nextafter(good, np.float32(1))
    best = find_best_f1([good, abnormal], [0, 1])
    assert (good > best.value, abnormal > best.value) == (False, True)
    assert best.f1 == 1.0


def test_max_f1_of_one_kind_only_is_refused() -> None:
    for labels in ([0, 0], [1, 1]):
        with pytest.raises(CalibrationError, match="both good and abnormal"):
            find_best_f1([0.1, 0.2], labels)
