"""Distributions and the highest images, in bounded memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.report.distribution import BINS, Highest, Histogram, take_turns


def histogram(scores: np.ndarray) -> Histogram:
    found = Histogram()
    found.add(scores.astype(np.float32))
    return found


def add(kept: Highest, scores: list[float], ids: pa.Array, file: int) -> None:
    """Scores whose logits an older version did not write."""
    kept.add(np.array(scores, np.float32), np.full(len(scores), np.nan, np.float32), ids, file)


def hexes(*numbers: int) -> pa.Array:
    return pa.array([f"{number:032x}" for number in numbers])


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


def test_the_highest_are_kept_whatever_the_batches() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(3_000).astype(np.float32)
    order = np.argsort(-scores, kind="stable")[:10]
    kept = Highest(10)
    for file, part in enumerate(np.array_split(np.arange(3_000), 11)):
        add(kept, scores[part].tolist(), hexes(*part.tolist()), file)
    assert [image_id for *_, image_id, _ in kept.rows()] == hexes(*order.tolist()).to_pylist()
    file_of = np.repeat(np.arange(11), [len(p) for p in np.array_split(np.arange(3_000), 11)])
    assert [file for *_, file in kept.rows()] == file_of[order].tolist()


def test_equal_scores_are_told_apart_by_their_logits() -> None:
    """Near 1, four hundred of five hundred images may round to the same score."""
    logits = np.random.default_rng(2).permutation(500).astype(np.float32)
    kept = Highest(5)
    for part in np.array_split(np.arange(500), 3):
        kept.add(np.ones(len(part), np.float32), logits[part], hexes(*part.tolist()), 0)
    add(kept, [1.0], hexes(1_000), 1)
    assert [logit for _, logit, *_ in kept.rows()] == [499, 498, 497, 496, 495]
    chosen = take_turns([kept], 2)
    assert [int(image_id, 16) for image_id, _ in chosen] == np.argsort(-logits)[:2].tolist()


def test_an_image_that_was_scored_twice_takes_one_place() -> None:
    kept = Highest(2)
    add(kept, [0.9, 0.1], hexes(1, 2), 0)
    add(kept, [0.8], hexes(1), 1)
    assert [(i, f) for *_, i, f in kept.rows()] == [(f"{1:032x}", 0), (f"{2:032x}", 0)]


def test_categories_take_turns() -> None:
    high, low = Highest(5), Highest(5)
    add(high, [0.99, 0.98, 0.97], hexes(1, 2, 3), 0)
    add(low, [0.2, 0.1], hexes(11, 12), 7)
    chosen = take_turns([low, high], 4)
    assert [int(image_id, 16) for image_id, _ in chosen] == [1, 11, 2, 12]
    assert [file for _, file in chosen] == [0, 7, 0, 7]
