"""Thresholds of score rows: made, kept, read again and applied to the right model only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.calibration import (
    Calibration,
    CalibrationError,
    above,
    as_text,
    calibrate,
    read_calibration,
    write_calibration,
)
from pipeline.identity import ModelIdentity
from pipeline.storage import StorageError


def rows(count: int = 400, model: str = "m1") -> pd.DataFrame:
    """Good images of two categories; bolts score higher, and one of them failed."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "category": pd.Categorical(["bolt", "nut"] * (count // 2)),
            "model": model,
            "score": rng.random(count, dtype=np.float32) / 4,
            "map_max": rng.random(count, dtype=np.float32),
            "anomalous_area": np.float32(0),
        }
    )
    frame.loc[frame.category == "bolt", "score"] += np.float32(0.5)
    failed = pd.DataFrame({"category": ["bolt"], "model": [model]})
    return pd.concat([frame, failed.astype({"category": frame.category.dtype})], ignore_index=True)


def test_each_category_and_measure_has_its_threshold() -> None:
    found = calibrate(rows(), false_alarm_rate=0.05)
    assert set(found.limits) == {"bolt", "nut"}
    assert set(found.limits["nut"]) == {"score", "map_max", "anomalous_area"}
    assert found.limits["bolt"]["score"].num_images == 200
    assert found.values()["bolt"] > 0.7 > 0.25 > found.values()["nut"]
    assert found.values("anomalous_area") == {"bolt": 0.0, "nut": 0.0}
    assert found.model == "m1"
    assert found.too_few == []
    assert found.statement("nut", "score").startswith(
        "200 good images: with 0.95 confidence at most 4."
    )


def test_too_few_images_say_how_many_are_needed_and_what_they_allow() -> None:
    found = calibrate(rows(100), false_alarm_rate=0.001, measures=["score"])
    assert found.too_few == ["bolt", "nut"]
    assert found.statement("nut", "score") == (
        "50 good images are too few to promise 0.10%, which takes 2,995; with 0.95 confidence at "
        "most 5.82% of good images are above"
    )
    assert found.limits["nut"]["score"].value == rows(100).query("category == 'nut'").score.max()


def test_with_labels_only_good_images_count_and_there_is_max_f1() -> None:
    good = rows().dropna().assign(label=0)
    bad = good.head(20).assign(label=1, score=np.float32(0.99))
    found = calibrate(pd.concat([good, bad]), false_alarm_rate=0.05)
    assert found.limits == calibrate(good, false_alarm_rate=0.05).limits
    assert found.max_f1["bolt"]["score"].f1 == 1.0
    assert 0.75 < found.values("score", use="max_f1")["bolt"] < 0.99
    with pytest.raises(CalibrationError, match="which takes labels"):
        calibrate(good, false_alarm_rate=0.05).values("score", use="max_f1")


def test_a_category_without_good_images_has_no_threshold() -> None:
    frame = rows().assign(label=0)
    frame.loc[frame.category == "nut", "label"] = 1
    assert set(calibrate(frame, false_alarm_rate=0.05).limits) == {"bolt"}
    with pytest.raises(CalibrationError, match="no good image"):
        calibrate(frame.assign(label=1), false_alarm_rate=0.05)


def test_rows_of_several_models_are_refused() -> None:
    with pytest.raises(CalibrationError, match="several models \\(m1, m2\\)"):
        calibrate(pd.concat([rows(), rows(model="m2")]), false_alarm_rate=0.05)


@pytest.mark.parametrize("place", ["local", "s3"])
def test_thresholds_come_back_as_they_were(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    frame = rows().dropna().assign(label=0)
    frame.loc[:9, "label"] = 1
    found = calibrate(frame, false_alarm_rate=0.05, source="s3://b/scores")
    folder = str(tmp_path) if place == "local" else f"s3://{request.getfixturevalue('bucket')}"
    write_calibration(f"{folder}/models/thresholds.json", found)
    again = read_calibration(f"{folder}/models/thresholds.json")
    assert again == found
    assert isinstance(again, Calibration)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '{"model": "m", "false_alarm_rate": 0.1, "confidence": 0.9, "limits": {"a": '
     '{"score": {"value": NaN, "num_images": 1, "num_above": 0, "bound": 0.5}}}}'],
)  # fmt: skip
def test_what_holds_no_thresholds_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(CalibrationError, match=r"x\.json holds no thresholds"):
        read_calibration(f"{tmp_path}/x.json")
    with pytest.raises(StorageError):
        read_calibration(f"{tmp_path}/missing.json")


def test_above_is_greater_than_the_categorys_threshold() -> None:
    frame = rows().dropna()
    found = calibrate(frame, false_alarm_rate=0.05)
    mask = above(frame, found)
    for category, limits in found.limits.items():
        assert mask[frame.category == category].sum() == limits["score"].num_above
    area = above(frame, found, "anomalous_area")
    assert not area.any()


def test_rows_that_lack_columns_say_which_to_ask_for() -> None:
    narrow = rows()[["score"]]
    assert above(narrow, 0.5).sum() == 200
    remedy = r"ask scores\(\) for columns=\['category'"
    with pytest.raises(ValueError, match=f"no category; {remedy}"):
        above(narrow, {"nut": 0.5})
    with pytest.raises(ValueError, match=f"no category, model; {remedy}"):
        above(narrow, calibrate(rows(), false_alarm_rate=0.05))
    with pytest.raises(ValueError, match=f"no category, model; {remedy}"):
        calibrate(narrow, false_alarm_rate=0.05, measures=["score"])


def test_what_can_not_be_compared_is_neither_above_nor_below() -> None:
    frame = rows()
    mask = above(frame, {"bolt": 0.6})
    assert mask[frame.category == "nut"].isna().all()
    assert mask.iloc[[-1]].isna().all()  # a bolt without a score
    assert len(frame[mask.fillna(False)]) == mask.sum() > 0
    assert above(frame, 0.6).notna().sum() == len(frame) - 1


def test_thresholds_of_another_model_are_refused_with_both_names() -> None:
    found = calibrate(rows(), false_alarm_rate=0.05)
    with pytest.raises(CalibrationError, match="of the model m1, the scores of m2; calibrate"):
        above(rows(model="m2"), found)


def referred(**models: str) -> pd.DataFrame:
    """Good images whose categories have these models."""
    frame = rows()
    return frame.assign(model=frame.category.astype(object).map(models))


def test_thresholds_know_the_references_of_each_category() -> None:
    frame = referred(bolt="m+refs-1a", nut="m")
    found = calibrate(frame, false_alarm_rate=0.05)
    assert (found.model, found.references) == ("m", {"bolt": "1a"})
    assert found.identity == ModelIdentity("m", {"bolt": "1a"})
    assert "bolt: with the references 1a" in as_text(found)
    assert above(frame, found).notna().sum() == len(frame) - 1


def test_thresholds_with_references_come_back_and_those_of_before_are_read(tmp_path: Path) -> None:
    found = calibrate(referred(bolt="m+refs-1a", nut="m"), false_alarm_rate=0.05)
    write_calibration(f"{tmp_path}/new.json", found)
    assert read_calibration(f"{tmp_path}/new.json") == found
    old = json.loads((tmp_path / "new.json").read_text())
    del old["references"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert read_calibration(f"{tmp_path}/old.json") == replace(found, references={})


def test_a_category_with_several_references_is_refused_by_name() -> None:
    both = pd.concat([referred(bolt="m+refs-1a", nut="m"), referred(bolt="m", nut="m")])
    with pytest.raises(
        CalibrationError, match="'bolt' has scores with no references, the references 1a; choose"
    ):
        calibrate(both, false_alarm_rate=0.05)


@pytest.mark.parametrize("model", ["m", "m+refs-2b"])
def test_thresholds_of_other_references_are_none_and_said_aloud(model: str) -> None:
    found = calibrate(referred(bolt="m+refs-1a", nut="m"), false_alarm_rate=0.05)
    frame = referred(bolt=model, nut="m")
    with pytest.warns(UserWarning, match=r"the thresholds of bolt are of other .*201 of the rows"):
        mask = above(frame, found)
    assert mask[frame.category == "bolt"].isna().all()
    assert mask[frame.category == "nut"].notna().all()
    identity = ModelIdentity("m", {"bolt": "2b"} if "+" in model else {})
    assert found.outdated(identity) == ["bolt"]
    assert set(found.without(["bolt"]).limits) == {"nut"}
    assert found.outdated(found.identity) == []
    with pytest.raises(CalibrationError, match="'bolt' is of scores with the references 1a, this"):
        found.check_row("bolt", model)
    found.check_row("nut", "m")
