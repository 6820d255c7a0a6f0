"""Scorers without a model: every row comes back, and a known speed is kept without working."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest

from pipeline.benchmark.stand_in import StandInScorer, scorer_of_known_speed
from pipeline.benchmark.whole_job import TINY
from pipeline.config import NONE, ModelSpec
from pipeline.schema import MANIFEST_SCHEMA, pixel_schema, scored_schema

SIZE = 28
MODEL = ModelSpec(backbone=TINY, backbone_weights=NONE, checkpoint=NONE, image_size=SIZE)


def batch(count: int) -> pa.Table:
    rows = [
        dict.fromkeys(MANIFEST_SCHEMA.names) | {"uri": f"s3://b/{i}", "pixels": bytes(SIZE**2 * 3)}
        for i in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=pixel_schema(SIZE))


def test_rows_come_back_with_scores_and_maps() -> None:
    scored = StandInScorer(MODEL, fingerprint="x", gpus=0)(batch(5))
    assert scored.schema == scored_schema()
    assert scored["uri"].to_pylist() == [f"s3://b/{i}" for i in range(5)]
    assert scored["score"].to_pylist() == [0.5] * 5
    assert np.array(scored["logit_grid"].to_pylist()).shape == (5, 4)


def test_a_known_speed_is_kept_by_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    scorer = scorer_of_known_speed(0.5)(MODEL)
    scorer(batch(4))
    assert 7.5 < slept[0] <= 8.0  # four images at one every two seconds, less the call's own work


def test_score_seconds_add_up_to_the_time_since_the_first_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([10.0, 10.0, 11.0, 15.0, 15.0, 16.0])  # starts, before the wait, ends
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    scorer = StandInScorer(MODEL)
    seconds = [s for _ in range(2) for s in scorer(batch(2))["score_s"].to_pylist()]
    assert sum(seconds) == pytest.approx(16.0 - 10.0)  # with the four seconds between the batches
