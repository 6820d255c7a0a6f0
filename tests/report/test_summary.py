"""Counts, rates and errors of one run, as a line, a table and JSON."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from pipeline.calibration import Calibration, Limit
from pipeline.identity import ModelIdentity
from pipeline.output.ledger import Before
from pipeline.provenance import peak_memory_bytes
from pipeline.report import summary as summary_module
from pipeline.report.summary import EXAMPLES_PER_ERROR, RunReport
from pipeline.schema import scored_schema


def rows(*, scored: int = 0, errors: dict[str, int] | None = None, **timings: float) -> pa.Table:
    """Scored rows: some with a score, some with an error of each code."""
    made: list[dict[str, Any]] = [{"uri": f"s3://b/{i}", "score": 0.5} for i in range(scored)]
    for code, count in (errors or {}).items():
        made += [
            {"uri": f"s3://b/{code}/{i}", "error": code, "error_message": f"{code} number {i}"}
            for i in range(count)
        ]
    return pa.Table.from_pylist([row | timings for row in made], schema=scored_schema())


def report(**changes: Any) -> RunReport:
    """A report of a run that listed 20 objects, 8 of them scored before."""
    counts = {"listed": 20, "skipped": 8, "pending": 12, "excluded": 3}
    settings = {"input": ["s3://b"], "category": None}
    return RunReport(**{"run_id": "run-1", "settings": settings, "model": "m", **counts, **changes})


def finished() -> RunReport:
    """The report of ``report()`` at its end: nine scored, three errors of two codes."""
    made = report(seconds={"list": 2.0, "run": 6.0, "write": 0.5})
    made.add(rows(scored=4, errors={"truncated": 2}, fetch_s=0.25, decode_s=0.5, score_s=1.0))
    made.add(rows(scored=5, errors={"empty": 1}, fetch_s=0.25))
    made.map_bytes, made.score_bytes, made.status = 27_000, 6_000, "done"
    return made


def test_counts_add_up() -> None:
    made = finished()
    assert (made.scored, made.num_errors, made.num_done) == (9, 3, 12)
    assert made.errors == {"truncated": 2, "empty": 1}
    counts = made.as_dict()["counts"]
    assert counts["listed"] == counts["scored"] + counts["skipped"] + counts["errors"] == 20
    assert (counts["not_reached"], counts["excluded"]) == (0, 3)


def test_deep_images_that_use_little_of_their_range_are_remarked_once_most_do() -> None:
    made = report()
    made.add(rows(scored=2, deep_share=0.06))
    made.add(rows(scored=5))
    assert "2 of 2 images of more than 8 bits use less than an eighth" in made.remarks()[0]
    made.add(rows(scored=2, deep_share=0.9))
    assert made.remarks() == []
    assert report().remarks() == []


def test_an_interrupted_run_tells_what_it_did_not_reach() -> None:
    made = report()
    made.add(rows(scored=3, errors={"empty": 1}))
    counts = made.as_dict()["counts"]
    assert counts["not_reached"] == 8
    assert counts["listed"] == sum(
        counts[name] for name in ("scored", "skipped", "errors", "not_reached")
    )


def test_a_run_with_nothing_to_do_has_a_rate_of_no_errors() -> None:
    made = report(listed=8, pending=0)
    made.add(rows())
    assert made.too_many_errors(0.0, count_known=True) == ""
    assert json.loads(made.to_json())["bytes"]["per_map"] is None
    assert made.table()


@pytest.mark.parametrize(
    ("before", "most", "whose"),
    [
        (Before(), 0.25, ""),
        (Before(), 0.24, "this run's 12 images, 25.0%, ended"),
        # An earlier run of the same night left four errors among its five images.
        (Before(Counter(empty=4), of_date=5, errors_of_date=4), 0.41, "this scan date's 17 images"),
        (Before(Counter(empty=4), of_date=5, errors_of_date=4), 0.42, ""),
        (
            Before(Counter(empty=8)),
            0.5,
            "11 of the listed 20 images, 55.0%, ended in an error (8 of",
        ),
    ],
)
def test_errors_of_earlier_runs_count_for_the_exit_code(
    before: Before, most: float, whose: str
) -> None:
    made = finished()
    made.before = before
    told = made.too_many_errors(most, count_known=True)
    assert whose in told
    assert bool(told) == bool(whose)
    own = made.too_many_errors(most, count_known=False)
    assert bool(own) == (most < 3 / 12)


def test_what_earlier_runs_could_not_score_is_told_apart() -> None:
    made = finished()
    made.before = Before(Counter(truncated=2, empty=1))
    assert made.start_line().startswith("12 images to score, 5 scored before, 2 truncated before")
    data = made.as_dict()
    assert (data["counts"]["skipped"], data["counts"]["errors_before"]) == (8, 3)
    assert data["errors_before"] == {"truncated": 2, "empty": 1}
    assert "errors of earlier runs" in made.table()


def test_seconds_of_the_stages_are_summed_over_rows() -> None:
    made = finished()
    data = made.as_dict()
    assert data["seconds"] == {
        "list": 2.0,
        "run": 6.0,
        "write": 0.5,
        "fetch": 3.0,
        "decode": 3.0,
        "score": 6.0,
    }
    assert data["images_per_s"] == {
        "list": 10.0,
        "run": 2.0,
        "steady": made.steady_rate,
        "fetch": 4.0,
        "decode": 4.0,
        "score": 2.0,
        "write": 24.0,
    }
    assert data["bytes"]["per_map"] == 3000.0
    assert data["bytes"]["per_image"] == 2750.0  # 27 kB of maps and 6 kB of scores for 12 images


def test_the_steady_rate_leaves_out_what_came_before_the_first_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([100.0, 102.0, 104.0])
    monkeypatch.setattr(summary_module.time, "monotonic", lambda: next(clock))
    made = report(started=0.0)
    assert made.steady_rate is None
    for _ in range(3):
        made.add(rows(scored=8))
    assert made.steady_rate == 16 / 4


def test_the_largest_scorer_counts() -> None:
    made = report()
    made.add(rows(scored=2, scorer_memory=500))
    made.add(rows(scored=2, scorer_memory=300))
    assert made.as_dict()["peak_memory_bytes"]["scorer"] == 500
    assert made.as_dict()["peak_memory_bytes"]["driver"] == pytest.approx(peak_memory_bytes(), 0.1)


def test_examples_of_an_error_are_few() -> None:
    made = report()
    for _ in range(4):
        made.add(rows(errors={"truncated": 50, "empty": 1}))
    examples = made.as_dict()["error_examples"]
    assert {code: len(kept) for code, kept in examples.items()} == {
        "truncated": EXAMPLES_PER_ERROR,
        "empty": EXAMPLES_PER_ERROR,
    }
    assert examples["truncated"][0] == {
        "uri": "s3://b/truncated/0",
        "message": "truncated number 0",
    }
    assert made.errors["truncated"] == 200


def test_report_json_is_json() -> None:
    made = finished()
    made.message = 'quotes " and\nlines, ünï ✓'
    data = json.loads(made.to_json())
    assert data == made.as_dict() | {"peak_memory_bytes": data["peak_memory_bytes"]}
    assert data["message"] == made.message
    assert "✓".encode() in made.to_json(), "readable without a decoder"


def test_report_json_holds_arguments_that_are_no_unicode() -> None:
    made = report(settings={"input": [b"bad\xff".decode(errors="surrogateescape")]})
    assert json.loads(made.to_json())["settings"]["input"] == ["bad\udcff"]


def test_progress_line_tells_done_total_rate_errors_and_time_left() -> None:
    made = report(pending=2_012)
    made.add(rows(scored=1_000, errors={"empty": 6}))
    assert made.progress_line(503.0) == "1,006 / 2,012 images · 2 images/s · 6 errors · 8 min left"


def test_progress_line_of_a_run_that_has_done_nothing_does_not_guess() -> None:
    assert report().progress_line(30.0) == "0 / 12 images · none finished yet, 30 s so far"


def test_the_table_tells_counts_errors_and_rates() -> None:
    made = finished()
    made.add(rows(errors={"not_an_image": 1}))
    made.tally.examples["not_an_image"][0]["message"] = "line\nbreak \x1b[31mred"
    shown = made.table()
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    for expected in (
        "run run-1: done",
        "listed 20",
        "scored 9",
        "skipped 8",
        "truncated 2 truncated number 0",
        r"not_an_image 1 line\nbreak \x1b[31mred",
        "list 2.0 10",
        "bytes per image: 2,538; per map: 3,000",
    ):
        assert expected in lines, shown


def test_images_above_their_threshold_are_counted() -> None:
    limits = {"bolt": {"score": Limit(value=0.5, num_images=9, num_above=0, bound=0.3)}}
    settings: dict[str, Any] = {"model": "m", "false_alarm_rate": 0.3, "confidence": 0.9}
    made = report(calibration=Calibration(**settings, limits=limits))
    found = [("bolt", 0.5), ("bolt", 0.6), ("nut", 0.9), ("bolt", None)]
    table = [{"uri": "s3://b/x", "category": c, "score": s, "error": None if s else "empty",
              "error_message": None if s else "no bytes"} for c, s in found]  # fmt: skip
    made.add(pa.Table.from_pylist(table, schema=scored_schema()))
    assert json.loads(made.to_json())["thresholds"] == {
        "false_alarm_rate": 0.3,
        "confidence": 0.9,
        "score": {"bolt": 0.5},
        "outdated": [],
        "above": {"bolt": 1},
        "uncalibrated": {"nut": 1},
    }
    assert "1 above the threshold of their category" in made.table()
    assert json.loads(report().to_json())["thresholds"] is None


def test_references_are_in_the_report() -> None:
    made = report(references={"bolt": "1a"}, references_uri="s3://b/refs")
    assert made.identity == ModelIdentity("m", {"bolt": "1a"})
    assert made.as_dict()["references"] == {"uri": "s3://b/refs", "sets": {"bolt": "1a"}}
    assert report().as_dict()["references"] == {}
    assert report().identity == ModelIdentity("m")


def test_thresholds_of_other_references_count_as_none_and_are_said() -> None:
    limit = {"score": Limit(value=0.5, num_images=9, num_above=0, bound=0.3)}
    thresholds = Calibration(
        model="m", false_alarm_rate=0.3, confidence=0.9, limits={"bolt": limit, "nut": limit}
    )
    made = report(calibration=thresholds, references={"bolt": "1a"})
    assert made.outdated == ["bolt"]
    table = [{"uri": "s3://b/x", "category": name, "score": 0.9} for name in ("bolt", "nut")]
    made.add(pa.Table.from_pylist(table, schema=scored_schema()))
    found = made.as_dict()["thresholds"]
    assert (found["score"], found["outdated"]) == ({"nut": 0.5}, ["bolt"])
    assert (found["above"], found["uncalibrated"]) == ({"nut": 1}, {"bolt": 1})
    assert "thresholds of other references, to calibrate again: bolt" in made.table()
