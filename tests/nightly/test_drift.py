"""When scores count as changed."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.nightly.drift import MIN_IMAGES, Drift, compare
from pipeline.nightly.samples import Sample


def sample(scores: np.ndarray) -> Sample:
    made = Sample()
    made.add(np.array([i.to_bytes(16) for i in range(len(scores))], "S16"), scores, scores)
    return made


def beta(seed: int, count: int, a: float = 2.0) -> np.ndarray:
    """Scores between 0 and 1, most of them low."""
    return np.random.default_rng(seed).beta(a, 8.0, count).astype(np.float32)


def one(tonight: np.ndarray, past: np.ndarray) -> Drift:
    (found,) = compare({"bolt": sample(tonight)}, {"bolt": sample(past)})
    return found


def test_a_clear_change_is_drift() -> None:
    found = one(beta(0, 500, a=3.0), beta(1, 5_000))
    assert found.drifted
    assert (found.images, found.past_images) == (500, 5_000)
    assert found.median > found.past_median
    assert found.statistic > 0.2
    assert found.p_value < 1e-6


def test_nights_of_one_distribution_are_no_drift() -> None:
    assert not any(one(beta(2 * i, 300), beta(2 * i + 1, 3_000)).drifted for i in range(50))


def test_a_change_too_small_to_matter_is_no_drift_however_certain() -> None:
    found = one(beta(0, 100_000, a=2.1), beta(1, 100_000))
    assert found.p_value < 1e-6
    assert not found.drifted


def test_a_large_difference_of_few_images_is_no_drift() -> None:
    found = one(np.linspace(0, 1, 40, dtype="f4"), np.linspace(0.15, 1, 40, dtype="f4"))
    assert found.statistic >= 0.1
    assert not found.drifted


def test_many_categories_raise_the_bar() -> None:
    """One p-value of 0.005 is drift alone, and chance among two hundred."""
    tonight, past = beta(0, 200), beta(0, 200)
    order = np.argsort(tonight)
    tonight[order[: int(0.17 * 200)]] = 0.99  # moves 17 % of the images: p = 0.006
    alone = one(tonight, past)
    assert alone.drifted
    others = {f"c{i}": sample(beta(i, 200)) for i in range(200)}
    before = {f"c{i}": sample(beta(1_000 + i, 200)) for i in range(200)}
    found = compare({**others, "bolt": sample(tonight)}, {**before, "bolt": sample(past)})
    (bolt,) = [each for each in found if each.category == "bolt"]
    assert bolt.statistic == alone.statistic
    assert bolt.p_value > alone.p_value
    assert not bolt.drifted


@pytest.mark.parametrize("few", [0, MIN_IMAGES - 1])
def test_too_few_images_are_not_compared(few: int) -> None:
    assert compare({"bolt": sample(beta(0, few))}, {"bolt": sample(beta(1, 1_000))}) == []
    assert compare({"bolt": sample(beta(0, 1_000))}, {"bolt": sample(beta(1, few))}) == []


def test_a_new_category_is_not_compared() -> None:
    assert compare({"new": sample(beta(0, 100))}, {}) == []


def test_the_largest_change_comes_first() -> None:
    past = {name: sample(beta(9, 1_000)) for name in "abc"}
    tonight = {"a": sample(beta(1, 500)), "b": sample(beta(2, 500, a=5)), "c": sample(beta(3, 500))}
    found = compare(tonight, past)
    assert found[0].category == "b"
    assert [each.drifted for each in found] == [True, False, False]
