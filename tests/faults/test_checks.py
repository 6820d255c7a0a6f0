"""The checks see what they are there to see: each kind of damage is found as what it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pandas as pd
import pytest

from tests import outputs
from tests.faults.checks import Bucket, Findings, check_end, check_run
from tests.faults.images import Reference

NUM_OBJECTS = 4
Row = dict[str, Any]


@pytest.fixture
def listed(bucket: str, s3: dict[str, str]) -> Bucket:
    """A bucket of four objects; the last is no image."""
    found = Bucket(boto3.client("s3"), bucket)
    for i in range(NUM_OBJECTS):
        found.put(f"in/{i}.jpg", f"image {i}".encode())
    return found


def rows(listed: Bucket) -> list[Row]:
    """What a run without faults writes about them."""
    etags = listed.keys("in/")
    made = [outputs.scored(listed.input, i, 0.25 * i) for i in range(NUM_OBJECTS - 1)]
    made.append(outputs.scored(listed.input, NUM_OBJECTS - 1, None))
    return [row | {"etag": etags[f"in/{i}.jpg"]} for i, row in enumerate(made)]


def reference(listed: Bucket) -> Reference:
    return {
        (row["etag"], row["category"]): (row["score"], probability(i))
        for i, row in enumerate(rows(listed))
    }


def probability(i: int) -> Any:
    return 1 / (1 + pow(2.718281828, -outputs.grid(i).ravel().astype("float32")))


def ended(listed: Bucket) -> dict[str, int]:
    found = check_end(listed, reference(listed), listed.versions())
    return {name: len(each) for name, each in vars(found).items() if each}


def test_a_run_without_faults_has_no_findings(listed: Bucket) -> None:
    outputs.write(listed.output, rows(listed), "2026-01-01")
    assert ended(listed) == {}


def without_the_first(made: list[Row]) -> list[Row]:
    return made[1:]


def with_an_error_that_may_pass(made: list[Row]) -> list[Row]:
    return [*made[:-1], made[-1] | {"error": "fetch_failed"}]


def with_the_first_twice(made: list[Row]) -> list[Row]:
    return [*made, made[0]]


def with_maps_exchanged(made: list[Row]) -> list[Row]:
    grids = made[0]["logit_grid_q8"], made[1]["logit_grid_q8"]
    return [made[0] | {"logit_grid_q8": grids[1]}, made[1] | {"logit_grid_q8": grids[0]}, *made[2:]]


def with_a_score_that_is_off(made: list[Row]) -> list[Row]:
    return [made[0] | {"score": 0.01}, *made[1:]]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (without_the_first, {"lost": 1}),
        (with_an_error_that_may_pass, {"lost": 1}),
        (with_the_first_twice, {"doubled": 1}),
        (with_maps_exchanged, {"wrong": 2}),
        (with_a_score_that_is_off, {"wrong": 1}),
    ],
)
def test_damaged_rows_are_found(
    listed: Bucket, damage: Callable[[list[Row]], list[Row]], found: dict[str, int]
) -> None:
    outputs.write(listed.output, damage(rows(listed)), "2026-01-01")
    assert ended(listed) == found


def test_a_row_under_an_etag_that_never_was_is_found(listed: Bucket) -> None:
    made = rows(listed)
    made.append(outputs.scored(listed.input, NUM_OBJECTS, None) | {"etag": '"never"'})
    outputs.write(listed.output, made, "2026-01-01")
    assert ended(listed) == {"wrong": 1}


def test_a_missing_or_shifted_map_shard_is_found(listed: Bucket) -> None:
    outputs.write(listed.output, rows(listed), "2026-01-01")
    (shard,) = listed.keys("out/maps/")
    outputs.write(f"{listed.output}/other", list(reversed(rows(listed))), "2026-01-01")
    (reversed_shard,) = listed.keys("out/other/maps/")
    listed.put(shard, listed.read(reversed_shard))
    assert ended(listed) == {"wrong": 2}  # the middle one stays where it was
    listed.delete(shard)
    assert ended(listed) == {"wrong": 3}


TRUTHFUL = {
    "listed": 4,
    "scored": 3,
    "skipped": 0,
    "errors_before": 0,
    "errors": 1,
    "not_reached": 0,
    "excluded": 0,
}


def ran(returncode: int, status: str | None, counts: Row = TRUTHFUL, num_rows: int = 4) -> Findings:
    after = pd.DataFrame(
        {
            "run_id": ["r"] * num_rows,
            "image_id": range(num_rows),
            "uri": [f"uri {i}" for i in range(num_rows)],
            "etag": "etag",
            "error": [None] * (num_rows - 1) + ["not_an_image"] * min(num_rows, 1),
            "score": [0.5] * (num_rows - 1) + [None] * min(num_rows, 1),
        }
    )
    return check_run(
        {(f"uri {i}", "etag") for i in range(4)},
        set(),
        after,
        {"r": None if status is None else {"status": status, "counts": counts}},
        returncode=returncode,
        killed=returncode == -9,
        max_error_rate=0.3,
    )


@pytest.mark.parametrize(
    ("returncode", "status"), [(0, "done"), (1, "failed"), (1, None), (-9, None), (-9, "running")]
)
def test_truthful_runs_have_no_findings(returncode: int, status: str | None) -> None:
    assert not ran(returncode, status)


@pytest.mark.parametrize(
    ("returncode", "status"),
    [(0, None), (0, "failed"), (2, "failed"), (-11, None), (0, "too_many_errors")],
)
def test_exit_codes_that_lie_are_found(returncode: int, status: str | None) -> None:
    assert ran(returncode, status).exit_codes


def test_reports_that_do_not_reconcile_are_found() -> None:
    assert ran(0, "done", TRUTHFUL | {"scored": 2}).wrong
    assert ran(1, "failed", num_rows=2).wrong
    assert ran(0, "done", num_rows=3).lost
