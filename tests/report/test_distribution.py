"""Distributions in bounded memory, and whose images are shown."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.output.tally import Highest
from pipeline.report.distribution import BINS, Histogram, take_turns


def histogram(scores: np.ndarray) -> Histogram:
    found = Histogram()
    found.add(scores.astype(np.float32))
    return found


def highest(scores: dict[int, float]) -> Highest:
    """Images by number, without the logits that an older version did not write."""
    found = Highest(5)
    score = pa.array(scores.values(), pa.float32())
    ids = [f"{number:02}" for number in scores]
    logit = pa.nulls(len(scores), pa.float32())
    found.add(pa.table({"image_id": ids, "score": score, "score_logit": logit}))
    return found


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.95, 1.0])
def test_quantiles_are_right_to_a_bin(share: float) -> None:
    scores = np.random.default_rng(0).beta(2, 9, 5_000)
    found = histogram(scores).quantile(share)
    assert found == pytest.approx(np.quantile(scores, share), abs=1 / BINS)


def test_the_counts_are_exact_and_trimmed() -> None:
    found = histogram(np.array([0.5, 0.5, 0.503, 1.0]))
    assert found.num_images == 4
    assert found.as_dict()["start"] == BINS // 2
    assert found.as_dict()["counts"][:2] == [2, 1]
    assert sum(found.as_dict()["counts"]) == 4
    assert len(found.as_dict()["counts"]) == BINS // 2
    assert found.summary()[0] == 4
    assert found.summary()[-1] == 1.0


def test_no_image_is_a_distribution_too() -> None:
    assert Histogram().summary() == [0] * 7
    assert Histogram().as_dict() == {"start": 0, "counts": []}


def test_categories_take_turns() -> None:
    high, low = highest({1: 0.99, 2: 0.98, 3: 0.97}), highest({11: 0.2, 12: 0.1})
    chosen = take_turns([low, Highest(5), high], 4)
    assert [row["image_id"] for row in chosen] == ["01", "11", "02", "12"]
    assert take_turns([], 4) == []
