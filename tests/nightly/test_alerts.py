"""Thresholds of the alert rule, and rules that can't work."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pipeline.calibration import Calibration, Limit
from pipeline.nightly.alerts import AlertRule
from pipeline.nightly.samples import Sample


def past(count: int) -> Sample:
    """Scores 1/count ... 1, areas the same in reverse."""
    made = Sample()
    scores = np.arange(1, count + 1, dtype=np.float32) / count
    made.add(np.array([i.to_bytes(16) for i in range(count)], "S16"), scores, 1 - scores)
    return made


def test_a_threshold_is_a_quantile_of_the_past() -> None:
    rule = AlertRule(score_quantile=0.99, area_quantile=0.9)
    score, area = rule.limits("bolt", past(10_000))
    assert (score.measure, area.measure) == ("score", "anomalous_area")
    assert score.value == pytest.approx(0.99, abs=2e-4)
    assert area.value == pytest.approx(0.9, abs=2e-4)
    assert (score.chance, area.chance) == (pytest.approx(0.01), pytest.approx(0.1))
    assert score.why == "the 0.99 quantile of 10,000 past images"


def test_with_few_images_the_threshold_is_their_maximum() -> None:
    """200 images can't tell their 0.999 quantile; the chance that is reported says so."""
    (score,) = AlertRule().limits("bolt", past(200))
    assert score.value == 1.0
    assert score.chance == pytest.approx(1 / 201)


def test_too_few_images_give_no_threshold() -> None:
    assert AlertRule().limits("bolt", past(199)) == []
    assert len(AlertRule(min_images=199).limits("bolt", past(199))) == 1


def test_an_absolute_threshold_needs_no_past() -> None:
    (found,) = AlertRule(score_quantile=None, max_score=0.8).limits("bolt", Sample())
    assert (found.measure, found.value, found.chance) == ("score", 0.8, 0.0)
    by_name = AlertRule(score_quantile=None, max_score={"bolt": 0.7})
    assert [t.value for t in by_name.limits("bolt", Sample())] == [0.7]
    assert by_name.limits("nut", Sample()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"score_quantile": 1.0}, "alert score_quantile is 1.0; a quantile is between 0 and 1"),
        ({"score_quantile": 99.9}, "alert score_quantile is 99.9"),
        ({"area_quantile": "0.9"}, "alert area_quantile is '0.9'"),
        ({"score_quantile": float("nan")}, "alert score_quantile is nan"),
        ({"max_score": 1.5}, "alert max_score is 1.5; scores are from 0 to 1"),
        ({"max_score": {"bolt": "high"}}, "alert max_score of 'bolt' is 'high'"),
        ({"min_images": 0}, "alert min_images is 0; it must be a whole number from 1 on"),
        ({"nights": 1.5}, "alert nights is 1.5"),
        ({"min_count": True}, "alert min_count is True"),
        ({"measure": "size"}, "alert measure is 'size'; known are score, map_max"),
        ({"thresholds": "s3://user:pass@b/t"}, "alert thresholds holds a password"),
        ({"score_quantile": None}, "without any threshold never fires"),
        ({"score_quantile": None, "max_score": {}}, "without any threshold never fires"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        AlertRule(**settings)


def test_a_threshold_of_zero_is_one() -> None:
    assert AlertRule(score_quantile=None, max_score=0).limits("bolt", Sample())[0].value == 0.0


def test_a_rule_is_ready_for_json() -> None:
    rule = AlertRule(max_score={"bolt": 0.7})
    assert json.loads(json.dumps(rule.as_dict()))["max_score"] == {"bolt": 0.7}


def calibrated(measure: str = "score") -> Calibration:
    """A threshold of bolts."""
    limits = {"bolt": {measure: Limit(value=0.75, num_images=999, num_above=3, bound=0.01)}}
    made: dict[str, Any] = {"model": "m", "false_alarm_rate": 0.01, "confidence": 0.95}
    return Calibration(**made, limits=limits)  # type: ignore[arg-type]


def test_a_calibrated_threshold_takes_the_place_of_the_past() -> None:
    rule = AlertRule(thresholds="t.json", max_score=0.99)
    absolute, threshold = rule.limits("bolt", past(10_000), calibrated())
    assert (absolute.value, threshold.value, threshold.measure) == (0.99, 0.75, "score")
    assert threshold.chance == pytest.approx(4 / 1_000)
    assert threshold.why.startswith("999 good images: with 0.95 confidence at most 1.00%")
    # A category that was not calibrated still has its past.
    assert rule.limits("nut", past(10_000), calibrated())[1].why.startswith("the 0.999 quantile")


def test_the_rule_says_which_measure_counts() -> None:
    rule = AlertRule(thresholds="t.json", measure="map_max", area_quantile=0.9)
    threshold, area = rule.limits("bolt", past(10_000), calibrated("map_max"))
    assert (threshold.measure, threshold.value) == ("map_max", 0.75)
    assert area.measure == "anomalous_area"
