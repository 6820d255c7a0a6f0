"""What a night found, read from score tables that the job's own writer made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.calibration import Calibration, CalibrationError, Limit, write_calibration
from pipeline.identity import ModelIdentity
from pipeline.nightly.alerts import AlertRule
from pipeline.nightly.review import Review
from pipeline.nightly.reviewing import BOX, review_run
from pipeline.nightly.told import mark_told
from pipeline.storage import write_object
from tests import outputs

MODEL = ModelIdentity("m")
TODAY, RUN = "2026-01-20", "20260120T020000Z-abcdef"
HOSTILE = "\x1b]0;owned\x07\u202ebolt\n<script>../../x" + "y" * 500


def row(i: int, score: float | None, category: str = "bolt", **more: Any) -> dict[str, Any]:
    area = None if score is None else score / 10
    return outputs.scored("s3://b/in", i, score) | {
        "image_id": f"{(i * 2654435761) % 2**128:032x}",  # spread like a hash
        "category": category,
        "anomalous_area": area,
        "map_max": score,
        **more,
    }


def good(seed: int, count: int, category: str = "bolt") -> list[dict[str, Any]]:
    """Rows of a good night: scores below 0.2."""
    scores = np.random.default_rng(seed).uniform(0.05, 0.2, count)
    return [row(seed * 100_000 + i, float(s), category) for i, s in enumerate(scores)]


@pytest.fixture
def output(tmp_path: Path) -> str:
    """An output with ten good nights of a hundred bolts."""
    folder = str(tmp_path / "out")
    for day in range(1, 11):
        outputs.write(folder, good(day, 100), f"2026-01-{day:02}")
    return folder


def tonight(output: str, rows: list[dict[str, Any]], run_id: str = RUN) -> None:
    outputs.write(output, rows, TODAY, run_id=run_id)


def reviewed(output: str, rule: AlertRule | None = None, **more: Any) -> dict[str, Any]:
    """The review of the night's run, as review.json holds it."""
    found = review_run(output, run_id=RUN, identity=MODEL, scan_date=TODAY, rule=rule, **more)
    plain = found.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain, "ready for JSON"
    assert Review.from_json(plain) == found
    return plain


def table(found: dict[str, Any]) -> str:
    """A review for a terminal."""
    return Review.from_json(found).table()


def test_counts_are_those_of_the_run(output: str) -> None:
    errors = [row(7_000 + i, None, error="empty") for i in range(3)] + [row(8_000, None)]
    tonight(output, good(50, 20) + errors)
    found = reviewed(output)
    assert found["counts"] == {"new": 24, "scored": 20, "errors": 4}
    assert found["errors"] == {"empty": 3, "truncated": 1}
    assert found["past_nights"] == [f"2026-01-{day:02}" for day in range(1, 11)]
    assert (found["run_id"], found["model"], found["scan_date"]) == (RUN, "m", TODAY)


def test_the_most_anomalous_images_come_first(output: str) -> None:
    tonight(output, [*good(50, 30), row(9_001, 0.7), row(9_002, 0.9, "nut")])
    found = reviewed(output, top=2)["most_anomalous"]
    assert found == [
        {
            "uri": "s3://b/in/9002.jpg",
            "category": "nut",
            "score": pytest.approx(0.9),
            "score_logit": None,
            "anomalous_area": pytest.approx(0.09),
            "box": [10, 10, 40, 40],
        },
        {**found[1], "uri": "s3://b/in/9001.jpg", "category": "bolt"},
    ]


def test_an_image_over_its_categorys_threshold_fires_the_alert(output: str) -> None:
    tonight(output, [*good(50, 30), row(9_001, 0.7)])
    alert = reviewed(output, AlertRule())["alert"]
    assert alert["fired"]
    assert [image["uri"] for image in alert["images"]] == ["s3://b/in/9001.jpg"]
    (reason,) = alert["reasons"]
    assert reason.startswith("bolt: 1 of 31 images with score over 0.19")
    assert reason.endswith("the 0.999 quantile of 1,000 past images; 0.031 expected")
    assert alert["rule"]["score_quantile"] == 0.999


def test_a_good_night_does_not_fire(output: str) -> None:
    tonight(output, [row(i, 0.1) for i in range(50)])
    alert = reviewed(output, AlertRule())["alert"]
    assert (alert["fired"], alert["reasons"], alert["images"]) == (False, [], [])


def test_thresholds_are_per_category(output: str) -> None:
    """0.5 is high for a bolt, and what a nut always has."""
    outputs.write(output, [row(i, 0.4 + i / 2_000, "nut") for i in range(300)], "2026-01-15")
    tonight(output, [row(9_001, 0.5, "nut"), row(9_002, 0.5, "bolt")])
    alert = reviewed(output, AlertRule())["alert"]
    assert [image["category"] for image in alert["images"]] == ["bolt"]
    assert set(alert["thresholds"]) == {"bolt", "nut"}


def test_the_anomalous_area_has_a_threshold_of_its_own(output: str) -> None:
    tonight(output, [row(9_001, 0.1, anomalous_area=0.9)])
    assert not reviewed(output, AlertRule())["alert"]["fired"]
    alert = reviewed(output, AlertRule(area_quantile=0.99))["alert"]
    assert alert["reasons"][0].startswith("bolt: 1 of 1 images with anomalous_area over 0.01")


def test_the_alert_may_need_more_than_one_image(output: str) -> None:
    tonight(output, [row(9_001, 0.7), row(9_002, 0.8), row(9_003, 0.9, "nut")])
    rule = {"score_quantile": None, "max_score": 0.5}
    assert not reviewed(output, AlertRule(**rule, min_count=3))["alert"]["fired"]
    alert = reviewed(output, AlertRule(**rule, min_count=2))["alert"]
    assert [image["category"] for image in alert["images"]] == ["bolt", "bolt"]


def test_a_new_category_is_named_as_not_calibrated(output: str) -> None:
    tonight(output, [row(9_001, 0.99, "washer"), *good(50, 5)])
    alert = reviewed(output, AlertRule())["alert"]
    assert not alert["fired"]
    assert alert["uncalibrated"] == {"washer": 0}


def test_the_past_is_the_same_models_last_nights_only(output: str) -> None:
    high = [row(50_000 + i, 0.9) for i in range(500)]
    outputs.write(output, high, "2026-01-15", model="other")
    outputs.write(output, high, "2026-01-25")  # not past
    tonight(output, [row(9_001, 0.5)])
    found = reviewed(output, AlertRule(nights=3, min_images=1))
    assert found["past_nights"] == ["2026-01-09", "2026-01-10", "2026-01-15"]
    assert "of 200 past images" in found["alert"]["reasons"][0]


def test_an_earlier_finished_run_of_the_day_is_past(output: str) -> None:
    earlier = "20260120T010000Z-aaaaaa"
    tonight(output, [row(9_001, 0.9)], run_id=earlier)
    write_object(f"{output}/runs/{earlier}/report.json", b'{"status": "done"}')
    tonight(output, good(50, 5))
    found = reviewed(output, AlertRule())
    assert (found["counts"]["new"], found["untold_runs"]) == (5, [])
    assert not found["alert"]["fired"]


@pytest.mark.parametrize("report", [None, b'{"status": "interrupted"}'])
def test_rows_of_a_stopped_run_are_not_lost(output: str, report: bytes | None) -> None:
    """The driver was killed before it could tell of the defect that it had found."""
    killed = "20260119T235900Z-aaaaaa"
    rows = [row(9_001, 0.9), row(9_003, None, error="fetch_failed"), row(9_004, None)]
    outputs.write(output, rows, "2026-01-19", run_id=killed)
    if report:
        write_object(f"{output}/runs/{killed}/report.json", report)
    tonight(output, [*good(50, 5), row(9_003, 0.1)])
    found = reviewed(output, AlertRule())
    assert found["untold_runs"] == [killed]
    assert [image["uri"] for image in found["alert"]["images"]] == ["s3://b/in/9001.jpg"]
    assert found["errors"] == {"truncated": 1}, "what was tried again counts once"
    assert found["counts"]["new"] == 8
    assert "20 past" not in found["alert"]["reasons"][0]
    # The next night's review does not tell of it again.
    write_object(f"{output}/runs/{RUN}/report.json", b'{"status": "done"}')
    later = "20260121T020000Z-bbbbbb"
    outputs.write(output, good(60, 5), "2026-01-21", run_id=later)
    after = review_run(
        output, run_id=later, identity=MODEL, scan_date="2026-01-21", rule=AlertRule()
    )
    assert after.counts.new == 5


def test_a_nightly_run_is_told_of_until_its_night_was(output: str) -> None:
    """The night was killed between the run's report and the summary."""
    killed = "20260119T235900Z-aaaaaa"
    outputs.write(output, [row(9_001, 0.9)], "2026-01-19", run_id=killed)
    report = {"status": "done", "source": "line-1"}
    write_object(f"{output}/runs/{killed}/report.json", json.dumps(report).encode())
    tonight(output, good(50, 5))
    found = reviewed(output, AlertRule())
    assert (found["untold_runs"], found["counts"]["new"]) == ([killed], 6)
    assert [image["uri"] for image in found["alert"]["images"]] == ["s3://b/in/9001.jpg"]
    # Then the summary of this night is written, and both were told of.
    write_object(f"{output}/runs/{RUN}/report.json", json.dumps(report).encode())
    mark_told(output, Review.from_json(found), "s3://b/nightly/2026-01-20-a.json")
    later = "20260121T020000Z-bbbbbb"
    outputs.write(output, good(60, 5), "2026-01-21", run_id=later)
    after = review_run(
        output, run_id=later, identity=MODEL, scan_date="2026-01-21", rule=AlertRule()
    )
    assert (after.untold_runs, after.counts.new) == ((), 5)


def test_a_shifted_category_has_drifted(output: str) -> None:
    outputs.write(output, good(40, 400, "nut"), "2026-01-15")
    shifted = [row(70_000 + i, 0.1 + i / 1_000) for i in range(200)]
    tonight(output, shifted + good(51, 200, "nut"))
    found = reviewed(output)
    assert found["drifted"] == ["bolt"]
    assert [each["category"] for each in found["drift"]] == ["bolt", "nut"]


def test_nothing_new_is_a_review_too(output: str) -> None:
    found = reviewed(output, AlertRule())
    assert found["counts"] == {"new": 0, "scored": 0, "errors": 0}
    assert (found["alert"]["fired"], found["drift"], found["most_anomalous"]) == (False, [], [])
    assert "0 new images" in table(found)


def test_a_new_output_has_nothing_to_compare_with(tmp_path: Path) -> None:
    assert reviewed(str(tmp_path / "new"), AlertRule())["past_nights"] == []


def test_the_table_tells_the_same(output: str) -> None:
    tonight(output, [row(9_001, 0.7), row(9_002, None)])
    lines = [" ".join(line.split()) for line in table(reviewed(output, AlertRule())).splitlines()]
    assert lines[0] == "2 new images: 1 scored, 1 truncated"
    assert lines[1] == "alert: FIRED"
    assert lines[2].startswith("bolt: 1 of 1 images with score over")
    assert lines[-1] == "0.700 bolt s3://b/in/9001.jpg"


def test_hostile_names_reach_json_whole_and_terminals_escaped(output: str) -> None:
    uri = f"s3://b/in/{HOSTILE}.jpg"
    outputs.write(output, good(41, 400, HOSTILE), "2026-01-15")
    tonight(output, [row(70_000 + i, 0.5 + i / 1_000, HOSTILE, uri=uri) for i in range(100)])
    found = reviewed(output, AlertRule())
    assert found["drifted"] == [HOSTILE]
    assert found["alert"]["images"][0]["uri"] == uri
    shown = table(found)
    assert all(line.isprintable() and len(line) < 250 for line in shown.splitlines())
    assert "FIRED" in shown


def thresholds(folder: Path, model: str = "m") -> str:
    """Calibrated thresholds of bolts."""
    limit = Limit(value=0.5, num_images=500, num_above=0, bound=0.006)
    limits = {"bolt": {"map_max": limit}}
    made: dict[str, Any] = {"model": model, "false_alarm_rate": 0.01, "confidence": 0.95}
    write_calibration(f"{folder}/thresholds.json", Calibration(**made, limits=limits))
    return f"{folder}/thresholds.json"


def test_calibrated_thresholds_fire_the_alert(output: str, tmp_path: Path) -> None:
    """Bolts have a threshold that needs no past; nuts, which are new, have none."""
    rule = AlertRule(thresholds=thresholds(tmp_path), measure="map_max")
    rows = [row(9_000, 0.4, map_max=0.6), row(9_001, 0.9, map_max=0.5), row(9_002, 0.9, "nut")]
    tonight(output, rows)
    alert = reviewed(output, rule)["alert"]
    assert alert["fired"]
    assert [image["uri"] for image in alert["images"]] == ["s3://b/in/9000.jpg"]
    assert alert["reasons"] == [
        "bolt: 1 of 2 images with map_max over 0.5, 500 good images: with 0.95 confidence at most "
        "0.60% of good images are above; 0.004 expected"
    ]
    assert alert["uncalibrated"] == {"nut": 0}


def test_thresholds_of_another_model_are_refused_with_both_names(
    output: str, tmp_path: Path
) -> None:
    tonight(output, good(50, 3))
    rule = AlertRule(thresholds=thresholds(tmp_path, "other"))
    with pytest.raises(CalibrationError, match="of the model other, the scores of m"):
        reviewed(output, rule)


REFERRED = ModelIdentity("m", {"bolt": "2"})


def referred(
    output: str, rows: list[dict[str, Any]], rule: AlertRule | None = None
) -> dict[str, Any]:
    """The review of a night whose bolts have references."""
    outputs.write(output, rows, TODAY, run_id=RUN, references=dict(REFERRED.references))
    found = review_run(output, run_id=RUN, identity=REFERRED, scan_date=TODAY, rule=rule)
    return found.to_json()


def test_scores_of_other_references_are_no_past(output: str) -> None:
    """Of bolts there are ten nights without references and one with others; nuts have none."""
    outputs.write(output, good(40, 400, "nut"), "2026-01-15")
    outputs.write(output, good(41, 400), "2026-01-16", references={"bolt": "1"})
    shifted = [row(70_000 + i, 0.7 + i / 1_000) for i in range(200)]
    shifted += [row(80_000 + i, 0.7 + i / 1_000, "nut") for i in range(200)]
    found = referred(output, shifted, AlertRule())
    assert found["counts"]["scored"] == 400
    assert found["references"] == {"bolt": "2"}
    assert [each["category"] for each in found["drift"]] == ["nut"], "as if bolts were new"
    assert {image["category"] for image in found["alert"]["images"]} == {"nut"}
    assert found["alert"]["uncalibrated"] == {"bolt": 0}


def test_nights_with_the_same_references_are_past(output: str) -> None:
    for day in range(11, 16):
        references = {"bolt": "2", "cap": str(day)}
        outputs.write(output, good(day, 100), f"2026-01-{day}", references=references)
    found = referred(output, [row(9_001, 0.7)], AlertRule())
    assert "of 500 past images" in found["alert"]["reasons"][0]


def test_rows_of_a_stopped_run_with_other_references_are_not_of_this_night(output: str) -> None:
    killed = "20260119T235900Z-aaaaaa"
    outputs.write(output, [row(9_001, 0.9)], "2026-01-19", run_id=killed, references={"bolt": "1"})
    found = referred(output, [row(9_001, 0.8), row(9_002, 0.1)])
    assert (found["untold_runs"], found["counts"]["new"]) == ([], 2)


def test_thresholds_of_other_references_count_as_none_and_are_said(
    output: str, tmp_path: Path
) -> None:
    rule = AlertRule(thresholds=thresholds(tmp_path), measure="map_max")
    found = referred(output, [row(9_000, 0.9, map_max=0.9)], rule)
    assert not found["alert"]["fired"]
    assert found["alert"]["outdated"] == ["bolt"]
    assert found["alert"]["uncalibrated"] == {"bolt": 0}
    assert "thresholds of other references, to calibrate again: bolt" in table(found)


def test_equal_scores_are_ordered_by_their_logits(output: str) -> None:
    rows = [row(9_000 + i, 1.0, score_logit=float(i)) for i in range(5)]
    tonight(output, [*rows, row(9_010, 1.0)])
    found = reviewed(output, AlertRule(max_score=0.5, score_quantile=None), top=4)
    for images in (found["most_anomalous"], found["alert"]["images"]):
        assert [image["score_logit"] for image in images] == [4, 3, 2, 1]
    uris = [image["uri"] for image in reviewed(output, top=9)["most_anomalous"]]
    assert uris[-1] == "s3://b/in/9010.jpg", "without a logit it comes last"


def test_a_review_of_an_older_version_is_read(output: str) -> None:
    """Before references, logits and thresholds that are out of date."""
    tonight(output, [row(9_001, 0.7)])
    plain = reviewed(output, AlertRule())
    expected = Review.from_json(plain)
    del plain["references"], plain["alert"]["outdated"]
    for images in (plain["most_anomalous"], plain["alert"]["images"]):
        del images[0]["score_logit"]
    assert Review.from_json(plain) == expected
    with pytest.raises(ValueError, match="drift"):
        Review.from_json({"drift": "none"})


def test_a_row_without_a_box_is_reviewed_and_read_again(output: str) -> None:
    """As scorers of other makes write it."""
    tonight(output, [row(9_001, 0.7, anomalous_area=None, **dict.fromkeys(BOX))])
    found = reviewed(output, AlertRule(max_score=0.5, score_quantile=None))
    assert Review.from_json(found).alert.images[0].box == (None,) * 4
