"""Scorers without a model: every row comes back, and a known speed is kept without working."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest

from pipeline.benchmark.simulated_device import NEAREST
from pipeline.benchmark.stand_in import SimulatedScorer, StandInScorer, scorer_of_known_speed
from pipeline.benchmark.whole_job import TINY
from pipeline.config import NONE, ModelSpec
from pipeline.schema import MANIFEST_SCHEMA, pixel_schema, scored_schema

SIZE = 28
MODEL = ModelSpec(backbone=TINY, backbone_weights=NONE, checkpoint=NONE, image_size=SIZE)


def batch(count: int) -> pa.Table:
    known = {"etag": "1", "category": "x", "width": 9, "height": 9, "pixels": bytes(SIZE**2 * 3)}
    rows = [
        dict.fromkeys(MANIFEST_SCHEMA.names) | {"uri": f"s3://b/{i}", **known} for i in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=pixel_schema(SIZE))


def test_rows_come_back_with_scores_and_maps() -> None:
    scored = StandInScorer(MODEL, fingerprint="x", gpus=0)(batch(5))
    assert scored.schema == scored_schema()
    assert scored["uri"].to_pylist() == [f"s3://b/{i}" for i in range(5)]
    assert scored["score"].to_pylist() == [0.5] * 5
    assert np.array(scored["logit_grid_q8"].to_pylist()).shape == (5, 4)


def timed(images_per_s: float) -> SimulatedScorer:
    return scorer_of_known_speed(images_per_s)(MODEL, fingerprint="x", gpus=0, num_threads=1)


def test_a_simulated_device_takes_its_time_and_the_scorer_does_its_own_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    scored = timed(0.5)(batch(4))
    assert slept == [8.0]
    assert scored.schema == scored_schema()
    assert scored["map_max"].null_count == scored["box_x1"].null_count == 0
    assert set(scored["nearest_reference"].to_pylist()) == {NEAREST}


def test_score_seconds_add_up_to_the_time_since_the_first_batch() -> None:
    """With the time between batches, in which the device waits."""
    scorer, began = timed(100.0), time.monotonic()
    first = scorer(batch(2))["score_s"].to_pylist()
    time.sleep(0.2)
    second = scorer(batch(2))["score_s"].to_pylist()
    assert 0.24 <= sum(first) + sum(second) <= time.monotonic() - began
