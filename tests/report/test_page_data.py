"""What the page shows is what the score table and the run folders hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.report import collector
from pipeline.report.page_data import gather
from pipeline.report.scope import Query
from pipeline.storage import write_object
from tests import outputs

RUN = "20260104T020000Z-abcdef"
SCORES = [0.9, 0.8, 0.7, 0.2, 0.1]


def row(i: int, score: float | None, category: str = "bolt", **more: Any) -> dict[str, Any]:
    area = None if score is None else score / 10
    return outputs.scored("s3://b/in", i, score) | {
        "category": category,
        "anomalous_area": area,
        "map_max": score,
        **more,
    }


def report(output: str, run_id: str, scan_date: str, **more: Any) -> None:
    found = {
        "run_id": run_id,
        "status": "done",
        "message": "",
        "model": "m",
        "counts": {"listed": 9, "scored": 5, "skipped": 2, "errors": 2, "not_reached": 0},
        "seconds": {"run": 2.0},
        "images_per_s": {"run": 3.5},
        "settings": {"scan_date": scan_date},
    }
    write_object(f"{output}/runs/{run_id}/report.json", json.dumps(found | more).encode())


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Three nights of bolts and a fourth with bolts, a nut and two errors."""
    folder = str(tmp_path / "out")
    for day in (1, 2, 3):
        outputs.write(
            folder,
            [row(100 * day + i, 0.1 + i / 100) for i in range(10)],
            f"2026-01-0{day}",
            run_id=f"2026010{day}T020000Z-000000",
        )
        report(folder, f"2026010{day}T020000Z-000000", f"2026-01-0{day}")
    rows = [row(i, score) for i, score in enumerate(SCORES)]
    rows += [row(50, 0.3, "nut"), row(60, None), row(61, None, error="fetch_failed")]
    outputs.write(folder, rows, "2026-01-04", run_id=RUN)
    report(folder, RUN, "2026-01-04")
    return folder


def of(data: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in data["categories"] if each["name"] == name)


def test_a_runs_page_tells_its_counts_and_the_nights_behind(output: str) -> None:
    data = gather(output, Query(run_id=RUN))
    assert json.loads(json.dumps(data["nights"])) == [
        {"date": "2026-01-01", "selected": False, "scored": 10, "errors": 0},
        {"date": "2026-01-02", "selected": False, "scored": 10, "errors": 0},
        {"date": "2026-01-03", "selected": False, "scored": 10, "errors": 0},
        {"date": "2026-01-04", "selected": True, "scored": 6, "errors": 2},
    ]
    assert data["counts"] == {"scored": 6, "errors": 2, "over": 0}
    assert (data["dates"], data["run_id"], data["model"]) == (["2026-01-04"], RUN, "m")
    assert data["runs"][0]["counts"]["listed"] == 9
    bolt = of(data, "bolt")
    assert (bolt["now"][0], bolt["past"][0], bolt["now"][-1]) == (5, 30, pytest.approx(0.9))
    assert [night[:2] for night in bolt["nights"]][-2:] == [["2026-01-03", 10], ["2026-01-04", 5]]
    assert of(data, "nut")["past"][0] == 0


def test_errors_come_with_examples(output: str) -> None:
    errors = gather(output)["errors"]
    assert {each["code"]: (each["count"], each["final"]) for each in errors} == {
        "truncated": (1, True),
        "fetch_failed": (1, False),
    }
    [example] = next(each for each in errors if each["code"] == "truncated")["examples"]
    assert example == {"uri": "s3://b/in/60.jpg", "message": "cut short"}


def test_examples_are_few_however_many_errors(output: str) -> None:
    outputs.write(output, [row(200 + i, None) for i in range(40)], "2026-01-05", run_id="x2")
    [error] = gather(output)["errors"]
    assert error["count"] == 40
    assert len(error["examples"]) == collector.EXAMPLES


def test_the_gallery_has_the_highest_of_every_category(output: str) -> None:
    rows = gather(output, gallery=3)["gallery"]
    assert [each["uri"] for each in rows] == [f"s3://b/in/{i}.jpg" for i in (0, 50, 1)]
    assert rows[0]["score"] == pytest.approx(0.9)
    assert (rows[0]["night"], rows[0]["box_x1"], rows[0]["map_row"]) == ("2026-01-04", 40, 0)
    assert gather(output, gallery=0)["gallery"] == []


def test_many_nights_are_one_page(output: str) -> None:
    data = gather(output, Query(first="2026-01-02", last="2026-01-03"))
    assert data["dates"] == ["2026-01-02", "2026-01-03"]
    assert data["past_dates"] == ["2026-01-01"]
    assert data["counts"]["scored"] == 20
    assert [each["run_id"][:8] for each in data["runs"]] == ["20260103", "20260102"]
    assert gather(output, Query(nights=3))["counts"]["scored"] == 26
    assert gather(output)["dates"] == ["2026-01-04"]
    assert gather(output, Query(past=1))["past_dates"] == ["2026-01-03"]


def test_a_night_that_is_not_there_is_an_error_that_names_those_that_are(output: str) -> None:
    with pytest.raises(ValueError, match=r"from 2027-01-01 to .*2026-01-01 to 2026-01-04"):
        gather(output, Query(first="2027-01-01"))
    with pytest.raises(ValueError, match="no report of a run 'nope'"):
        gather(output, Query(run_id="nope"))


def test_an_output_without_scores_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no scores"):
        gather(str(tmp_path))


def test_a_run_that_scored_nothing_has_a_page(tmp_path: Path) -> None:
    report(str(tmp_path), RUN, "2026-01-04", status="failed", message="no such file", model="")
    data = gather(str(tmp_path), Query(run_id=RUN))
    assert (data["counts"]["scored"], data["dates"], data["gallery"]) == (0, [], [])
    assert data["runs"][0]["message"] == "no such file"


def test_rows_of_another_model_are_left_out_and_told(output: str) -> None:
    outputs.write(output, [row(i, 0.99) for i in range(7)], "2026-01-04", "old", "20251231T0-x")
    data = gather(output)
    assert data["counts"]["scored"] == 6
    assert data["other_models"] == {"old": 7}
    assert gather(output, Query(model="old"))["counts"]["scored"] == 7


def test_an_earlier_run_of_the_same_day_is_past(output: str) -> None:
    later = "20260104T090000Z-eeeeee"
    outputs.write(output, [row(900, 0.5)], "2026-01-04", run_id=later)
    report(output, later, "2026-01-04")
    data = gather(output, Query(run_id=later))
    assert data["counts"] == {"scored": 1, "errors": 0, "over": 0}
    assert of(data, "bolt")["past"][0] == 35
    assert [each["name"] for each in data["categories"]] == ["bolt"], "no nut in this run"


def test_rows_of_a_stopped_run_are_on_the_next_page(output: str) -> None:
    later = "20260105T020000Z-eeeeee"
    report(output, RUN, "2026-01-04", status="interrupted")
    outputs.write(output, [row(900, 0.5)], "2026-01-05", run_id=later)
    report(output, later, "2026-01-05")
    data = gather(output, Query(run_id=later))
    assert data["counts"]["scored"] == 7
    assert [each["untold"] for each in data["runs"]] == [False, True]


def test_an_image_that_was_scored_again_is_shown_once_as_it_is_now(output: str) -> None:
    outputs.write(output, [row(0, 0.15)], "2026-01-05", run_id="20260105T020000Z-r")
    rows = gather(output, Query(nights=2))["gallery"]
    [found] = [each for each in rows if each["uri"] == "s3://b/in/0.jpg"]
    assert found["score"] == pytest.approx(0.15)
    assert found["night"] == "2026-01-05"


def test_an_error_that_may_pass_does_not_take_a_score_away(output: str) -> None:
    again = row(0, None, error="fetch_failed")
    outputs.write(output, [again], "2026-01-05", run_id="20260105T020000Z-r")
    data = gather(output, Query(nights=2))
    assert "s3://b/in/0.jpg" in [each["uri"] for each in data["gallery"]]


def test_thresholds_and_drift_are_the_nightly_reviews(output: str) -> None:
    review = {
        "alert": {
            "fired": True,
            "reasons": ["bolt: 2"],
            "rule": {"nights": 30},
            "uncalibrated": {"nut": 0},
            "thresholds": {
                "bolt": [
                    {"measure": "score", "value": 0.75, "chance": 0.01, "why": "w"},
                    {"measure": "anomalous_area", "value": 0.065, "chance": 0.01, "why": "w"},
                ]
            },
        },
        "drift": [{"category": "bolt", "drifted": True}],
    }
    write_object(f"{output}/runs/{RUN}/review.json", json.dumps(review).encode())
    data = gather(output, Query(run_id=RUN))
    bolt = of(data, "bolt")
    assert (bolt["over"], data["counts"]["over"], bolt["drifted"]) == (3, 3, True)
    assert [each["value"] for each in bolt["thresholds"]] == [0.75, 0.065]
    assert sum(each["over"] for each in data["gallery"]) == 3
    assert data["alert"] == {
        "fired": True,
        "reasons": ["bolt: 2"],
        "uncalibrated": {"nut": 0},
        "outdated": [],
    }
    assert gather(output, Query(nights=4))["counts"]["over"] == 3


def test_a_flood_of_categories_is_told_not_listed(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "MAX_CATEGORIES", 3)
    rows = [row(i, 0.5 + i / 100, f"serial {i}") for i in range(10)]
    outputs.write(output, rows, "2026-01-06", run_id="20260106T0-x")
    data = gather(output)
    assert len(data["categories"]) == 3
    assert data["others"]["now"][0] == 7
    assert data["counts"]["scored"] == 10
    assert len(data["gallery"]) == 10


def test_maps_and_images_are_not_read(output: str) -> None:
    for shard in Path(output).glob("maps/**/*.parquet"):
        shard.write_bytes(b"not Parquet")
    assert len(gather(output)["gallery"]) == 6


def test_each_category_has_the_references_of_its_newest_run(output: str) -> None:
    """Bolts were scored without, with some and with others; nuts without any."""
    scored = [row(i, 0.4 + i / 10) for i in range(3)] + [row(50, 0.3, "nut")]
    night = "2026-01-05"
    outputs.write(output, scored, night, run_id="20260105T0-1", references={"bolt": "1"})
    outputs.write(output, scored[:2], night, run_id="20260105T0-2", references={"bolt": "2"})
    data = gather(output)
    assert data["counts"]["scored"] == 3, "two bolts and the nut"
    assert of(data, "bolt")["now"][0] == 2
    assert data["model"] == "m"
    assert data["other_models"] == {"m+refs-1": 3}
    assert [each["run_id"] for each in data["runs"]] == ["20260105T0-2", "20260105T0-1"]
    assert of(data, "bolt")["past"][0] == 0, "no past with these references"
    assert of(data, "nut")["past"][0] == 1
    both = gather(output, Query(nights=2))
    assert (of(both, "bolt")["now"][0], of(both, "nut")["now"][0]) == (2, 2)
    assert both["other_models"] == {"m+refs-1": 3, "m": 7}, "five bolts and their two errors"


def test_references_may_be_named(output: str) -> None:
    night = "2026-01-05"
    for number in ("1", "2"):
        rows = [row(i, 0.5) for i in range(int(number))] + [row(50, 0.3, "nut")]
        outputs.write(output, rows, night, run_id=f"2026-{number}", references={"bolt": number})
    assert of(gather(output, Query(model="m")), "bolt")["now"][0] == 2
    data = gather(output, Query(model="m+refs-1"))
    assert (of(data, "bolt")["now"][0], of(data, "nut")["now"][0]) == (1, 2)
    with pytest.raises(ValueError, match="no row with the references 7"):
        gather(output, Query(model="m+refs-7"))


def test_a_category_that_lost_its_references_is_shown_without(output: str) -> None:
    night = "2026-01-05"
    outputs.write(output, [row(1, 0.5)], night, run_id="2026-1", references={"bolt": "1"})
    outputs.write(output, [row(2, 0.5), row(3, 0.6)], night, run_id="2026-2")
    data = gather(output)
    assert (of(data, "bolt")["now"][0], of(data, "bolt")["past"][0]) == (2, 35)
    assert data["other_models"] == {"m+refs-1": 1}


def test_a_runs_page_has_the_rows_of_its_references(output: str) -> None:
    later = "20260105T020000Z-eeeeee"
    sets = {"uri": "s3://b/refs", "sets": {"bolt": "2"}}
    rows = [row(900, 0.5, nearest_reference="s3://good/1.png", zero_shot_score=0.25)]
    outputs.write(output, rows, "2026-01-05", run_id=later, references={"bolt": "2"})
    report(output, later, "2026-01-05", references=sets)
    data = gather(output, Query(run_id=later))
    assert (of(data, "bolt")["now"][0], of(data, "bolt")["past"][0]) == (1, 0)
    (shown,) = data["gallery"]
    assert (shown["nearest_reference"], shown["zero_shot_score"]) == ("s3://good/1.png", 0.25)


def test_thresholds_and_drift_of_other_references_are_not_drawn(output: str) -> None:
    """The newest review is of a run before bolts were refreshed."""
    review = {
        "references": {"bolt": "1"},
        "alert": {
            "fired": False,
            "reasons": [],
            "rule": {"nights": 30},
            "uncalibrated": {},
            "thresholds": {
                name: [{"measure": "score", "value": 0.1, "chance": 0.01, "why": "w"}]
                for name in ("bolt", "nut")
            },
        },
        "drift": [{"category": name, "drifted": True} for name in ("bolt", "nut")],
    }
    rows = [row(1, 0.5), row(50, 0.3, "nut")]
    for number in ("1", "2"):
        run_id = f"2026-{number}"
        outputs.write(output, rows, "2026-01-05", run_id=run_id, references={"bolt": number})
        if number == "1":
            write_object(f"{output}/runs/{run_id}/review.json", json.dumps(review).encode())
    data = gather(output)
    assert (of(data, "bolt")["over"], of(data, "bolt")["drifted"]) == (0, False)
    assert (of(data, "nut")["over"], of(data, "nut")["drifted"]) == (2, True)
    same = gather(output, Query(model="m+refs-1"))
    assert (of(same, "bolt")["over"], of(same, "bolt")["drifted"]) == (1, True)


def test_thresholds_may_be_of_the_map(output: str) -> None:
    """As calibrated ones are, where the alert rule says so."""
    limit = {"measure": "map_max", "value": 0.75, "chance": 0.01, "why": "w"}
    review = {"alert": {"fired": True, "rule": {}, "thresholds": {"bolt": [limit]}}}
    write_object(f"{output}/runs/{RUN}/review.json", json.dumps(review).encode())
    data = gather(output, Query(run_id=RUN))
    assert (of(data, "bolt")["over"], sum(each["over"] for each in data["gallery"])) == (2, 2)
