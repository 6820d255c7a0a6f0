"""Scores as probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from pipeline.evaluation.reliability import Bin, calibration_error, fit_calibration, reliability


def drawn(scale: float, shift: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose probabilities are those of ``scale * logit + shift``, and labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, count)
    return logits, (rng.random(count) < expit(scale * logits + shift)).astype(int)


def test_a_diagram_has_means_and_shares() -> None:
    scores, labels = np.array([0.0, 0.05, 0.95, 1.0, 1.0]), np.array([0, 1, 1, 1, 0])
    bins = reliability(scores, labels)
    assert bins == [Bin(2, pytest.approx(0.025), 0.5), Bin(3, pytest.approx(2.95 / 3), 2 / 3)]
    assert calibration_error(bins) == pytest.approx((2 * 0.475 + 0.95) / 5)


def test_probabilities_have_no_error() -> None:
    logits, labels = drawn(1, 0)
    assert calibration_error(reliability(expit(logits), labels)) < 0.01


@pytest.mark.parametrize(("scale", "shift"), [(0.2, -1.0), (0.05, 0.5), (3.0, 0.0)])
def test_what_made_the_labels_is_found(scale: float, shift: float) -> None:
    logits, labels = drawn(scale, shift)
    found = fit_calibration(logits, labels)
    assert found is not None
    assert found == pytest.approx((scale, shift), rel=0.1, abs=0.05)
    before = calibration_error(reliability(expit(logits), labels))
    after = calibration_error(reliability(expit(found.scale * logits + found.shift), labels))
    assert after < 0.015 < before


def test_images_that_are_separated_wholly_give_a_finite_scale() -> None:
    found = fit_calibration(np.array([-3.0, -1.0, 2.0, 5.0]), np.array([0, 0, 1, 1]))
    assert found is not None
    assert 0 < found.scale < 10


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]])
def test_nothing_is_made_up(labels: list[int]) -> None:
    assert fit_calibration(np.array([-3.0, -1.0, 2.0, 5.0]), np.array(labels)) is None
