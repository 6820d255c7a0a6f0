"""What is kept of rows while they pass, however they are cut into batches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipeline.output.tally import Highest, Tally


def batch(scores: np.ndarray, numbers: np.ndarray, logits: np.ndarray | None = None) -> pa.Table:
    """Rows of images by number; without logits as an older version wrote them."""
    logit = pa.nulls(len(scores), pa.float32()) if logits is None else pa.array(logits)
    return pa.record_batch(
        {
            "image_id": [f"{number:032x}" for number in numbers],
            "score": pa.array(scores, pa.float32()),
            "score_logit": logit.cast(pa.float32()),
            "category": pa.array(numbers % 7).cast(pa.string()).dictionary_encode(),
        }
    )


def numbers(kept: Highest) -> list[int]:
    return [int(row["image_id"], 16) for row in kept.to_pylist()]


def test_the_highest_are_kept_whatever_the_batches() -> None:
    scores = np.random.default_rng(1).random(3_000).astype(np.float32)
    kept, chosen = Highest(10, ["category"]), Highest(10)
    for part in np.array_split(np.arange(3_000), 11):
        kept.add(batch(scores[part], part))
        chosen.add(batch(scores[part], part), np.flatnonzero(part % 2))
    order = np.argsort(-scores, kind="stable")
    assert numbers(kept) == order[:10].tolist()
    assert [row["category"] for row in kept.to_pylist()] == [str(i % 7) for i in order[:10]]
    assert numbers(chosen) == order[order % 2 == 1][:10].tolist(), "those at the positions given"
    assert kept.full
    assert Highest(0).to_pylist() == []


def test_equal_scores_are_told_apart_by_their_logits() -> None:
    """Near 1, four hundred of five hundred images may round to the same score."""
    logits = np.random.default_rng(2).permutation(500).astype(np.float32)
    kept = Highest(5)
    for part in np.array_split(np.arange(500), 3):
        kept.add(batch(np.ones(len(part)), part, logits[part]))
    kept.add(batch(np.ones(1), np.array([1_000])))
    assert numbers(kept) == np.argsort(-logits)[:5].tolist()


def test_equal_rows_are_told_apart_by_their_ids() -> None:
    kept = Highest(2)
    for number in (7, 3, 5):
        kept.add(batch(np.ones(1), np.array([number])))
    assert numbers(kept) == [3, 5]


def test_an_image_that_was_scored_twice_takes_one_place() -> None:
    first, again = (
        batch(np.array([0.9, 0.1]), np.array([1, 2])),
        batch(np.array([0.8]), np.ones(1, int)),
    )
    kept, both = Highest(2, distinct=True), Highest(2)
    for rows in (first, again):
        kept.add(rows)
        both.add(rows)
    assert (numbers(kept), numbers(both)) == ([1, 2], [1, 1])


def test_rows_are_counted_by_how_they_ended() -> None:
    tally = Tally(2, {"of": "uri"})
    errors = [None, "empty", "empty", "truncated", None, "empty"]
    for part in (errors[:3], errors[3:], []):
        error = pa.array(part, pa.string()).dictionary_encode()
        uris = pa.array([f"{len(part)}/{i}" for i in range(len(part))], pa.string())
        scored = tally.add(pa.record_batch({"uri": uris, "error": error}))
        assert scored.num_rows == part.count(None)
    assert (tally.num_rows, tally.scored) == (6, 2)
    assert tally.errors == {"empty": 3, "truncated": 1}
    kept = {code: [row["of"] for row in rows] for code, rows in tally.examples.items()}
    assert kept == {"empty": ["3/1", "3/2"], "truncated": ["3/0"]}
