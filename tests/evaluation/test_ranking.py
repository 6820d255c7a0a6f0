"""Image metrics against scikit-learn, and bounds that hold for every order within a group."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.evaluation import image_metrics
from pipeline.evaluation.ranking import area_under_curve, average_precision, max_f1
from tests.evaluation import oracle

few_values = st.sampled_from([0.0, 1e-30, 0.25, 0.5, 0.75, 1.0])
labelled = st.lists(
    st.tuples(st.one_of(few_values, st.floats(0, 1, width=32)), st.booleans()),
    min_size=2,
    max_size=60,
).filter(lambda pairs: len({label for _, label in pairs}) == 2)


@given(labelled)
def test_image_metrics_are_scikit_learns(pairs: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], dtype=np.float32)
    labels = np.array([label for _, label in pairs], dtype=np.int8)
    found = image_metrics(scores, labels)
    assert found == {
        "image_auroc": pytest.approx(roc_auc_score(labels, scores), abs=1e-12),
        "image_ap": pytest.approx(average_precision_score(labels, scores), abs=1e-12),
        "image_max_f1": pytest.approx(oracle.max_f1(labels == 1, scores), abs=1e-12),
    }


def test_perfect_inverted_and_constant_scores() -> None:
    labels = np.array([0, 0, 1, 1])
    rising = np.array([0.1, 0.2, 0.3, 0.4])
    assert list(image_metrics(rising, labels).values()) == [1, 1, 1]
    assert image_metrics(-rising, labels)["image_auroc"] == 0
    constant = image_metrics(np.ones(4), labels)
    assert constant == {"image_auroc": 0.5, "image_ap": 0.5, "image_max_f1": 2 / 3}


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []])
def test_one_kind_of_image_alone_has_no_metrics(labels: list[int]) -> None:
    found = image_metrics(np.linspace(0, 1, len(labels)), np.array(labels, dtype=int))
    assert list(found) == ["image_auroc", "image_ap", "image_max_f1"]
    assert np.isnan(list(found.values())).all()


def test_a_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="without a score"):
        image_metrics(np.array([0.5, np.nan]), np.array([0, 1]))


@pytest.mark.parametrize("labels", [[0, 255], [1, 2], [-1, 1], [0.0, np.nan]])
def test_labels_that_are_neither_0_nor_1_are_refused(labels: list[float]) -> None:
    with pytest.raises(ValueError, match="labels must be 0"):
        image_metrics(np.array([0.5, 0.6]), np.array(labels))


groups = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any), min_size=1, max_size=3
).filter(lambda g: all(map(any, zip(*g, strict=True))) and sum(map(sum, g)) <= 6)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(groups)
def test_bounds_hold_for_every_order_within_the_groups(groups: list[tuple[int, int]]) -> None:
    """Binned scores may have been in any order, or equal: the truth is never outside."""
    negatives, positives = (np.array(counts) for counts in zip(*groups, strict=True))
    unsure = np.zeros(len(groups), dtype=bool)
    area = area_under_curve(negatives, positives, unsure)
    precision = average_precision(negatives, positives, unsure)
    f1 = max_f1(negatives, positives, unsure)
    worst = np.zeros(3)
    for labels, scores in orders(groups):
        away = [
            abs(roc_auc_score(labels, scores) - area.value),
            abs(average_precision_score(labels, scores) - precision.value),
            abs(oracle.max_f1(labels, scores) - f1.value),
        ]
        worst = np.maximum(worst, away)
    bounds = np.array([area.error, precision.error, f1.error])
    assert (worst <= bounds + 1e-9).all()
    # They are close too: only average precision's is wider than what can happen, by a ninth for one
    # negative followed by two and three positives, the worst of all 429 such groups.
    np.testing.assert_allclose(worst[[0, 2]], bounds[[0, 2]], atol=1e-9)
    assert bounds[1] <= worst[1] + 1 / 9 + 1e-9


def orders(groups: list[tuple[int, int]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Labels and scores of all orders in which the groups' members may have been."""
    found: list[tuple[list[bool], list[float]]] = [([], [])]
    for number, (negatives, positives) in enumerate(groups):
        members = {*permutations([False] * negatives + [True] * positives)}
        found = [
            (labels + list(order), scores + [-(number + i / 10) for i in range(len(order))])
            for labels, scores in found
            for order in members
        ]
    return [(np.array(labels), np.array(scores)) for labels, scores in found]


def test_the_area_up_to_a_limit_is_interpolated_within_a_tie() -> None:
    steps = np.array([1, 1])
    ties = np.array([True, True])
    assert area_under_curve(steps, np.array([1, 0]), ties, 0.25).value == pytest.approx(0.25)
    assert area_under_curve(steps, np.array([1, 0]), ties, 0.25).error == 0
    unsure = area_under_curve(steps, np.array([1, 0]), ~ties, 0.25)
    assert unsure.value + unsure.error == pytest.approx(1)
