"""Calibration that scores first, and runs that use its thresholds, on a real local Ray."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.calibration import read_calibration, write_calibration
from pipeline.config import CalibrateConfig, ScoreConfig
from pipeline.distributed.calibrating import calibrate_model
from pipeline.distributed.scoring import CannotRunError, score_bucket
from tests import golden
from tests.bucket import jpeg

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of two categories, and what is no picture."""
    folder = tmp_path_factory.mktemp("calibrating")
    for i in range(8):
        place = folder / "good" / ("bolt" if i % 2 else "nut")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.jpg").write_bytes(jpeg(i))
    (folder / "good" / "bolt" / "notes.txt").write_bytes(b"no picture")
    return folder


def test_images_are_scored_calibrated_and_used(folder: Path, golden_files: dict[str, str]) -> None:
    config = CalibrateConfig(
        input=(f"{folder}/good",),
        output=f"{folder}/model",
        image_size=golden.IMAGE_SIZE,
        max_error_rate=1.0,
        false_alarm_rate=0.5,
        **golden_files,  # type: ignore[arg-type]
    )
    found = calibrate_model(config)
    assert found == read_calibration(f"{folder}/model/thresholds.json")
    assert {name: each["score"].num_images for name, each in found.limits.items()} == {
        "bolt": 4,
        "nut": 4,
    }
    assert found.model == golden.load(golden_files).fingerprint()
    # The same images again, against thresholds of one of the two categories.
    half = replace(found, limits={"nut": found.limits["nut"]})
    write_calibration(f"{folder}/half.json", half)
    scoring = replace(
        config.score_config(), output=f"{folder}/scores", thresholds=f"{folder}/half.json"
    )
    report = score_bucket(scoring)
    written = json.loads(Path(f"{folder}/scores/runs/{report.run_id}/report.json").read_text())
    assert sum(written["thresholds"]["above"].values()) == found.limits["nut"]["score"].num_above
    assert written["thresholds"]["uncalibrated"] == {"bolt": 4}
    assert written["thresholds"]["score"] == half.values()


def test_thresholds_of_another_model_stop_a_run_before_it_scores(
    folder: Path, golden_files: dict[str, str]
) -> None:
    own = read_calibration(f"{folder}/model/thresholds.json")
    write_calibration(f"{folder}/other.json", replace(own, model="feedface"))
    config = ScoreConfig(
        input=(f"{folder}/good",),
        output=f"{folder}/refused",
        image_size=golden.IMAGE_SIZE,
        thresholds=f"{folder}/other.json",
        **golden_files,  # type: ignore[arg-type]
    )
    with pytest.raises(CannotRunError, match=f"of the model feedface, the scores of {own.model}"):
        score_bucket(config)
    assert not Path(f"{folder}/refused/scores").exists()
