"""Calibration that scores first, and runs that use its thresholds, on a real local Ray."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.calibration import CalibrationError, read_calibration, write_calibration
from pipeline.config import CalibrateConfig, ScoreConfig
from pipeline.distributed import calibrating
from pipeline.distributed.calibrating import calibrate_model
from pipeline.distributed.scoring import score_bucket
from pipeline.errors import CannotRunError
from pipeline.report import RunReport
from tests import golden
from tests.bucket import jpeg
from tests.outputs import scored, write


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


@pytest.mark.usefixtures("local_ray")
def test_images_are_scored_calibrated_and_used(folder: Path, golden_files: dict[str, str]) -> None:
    config = CalibrateConfig(
        input=(f"{folder}/good",),
        output=f"{folder}/model",
        image_size=golden.IMAGE_SIZE,
        max_error_rate=1.0,
        false_alarm_rate=0.5,
        batch_size=1,  # last bits depend on which images share a batch, and a limit is a score
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


@pytest.mark.usefixtures("local_ray")
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


def test_a_prefix_without_images_is_named_beside_a_uri_that_there_is(tmp_path: Path) -> None:
    write(f"{tmp_path}/scores", [scored("s3://b/good", i, 0.5) for i in range(4)], "2026-01-01")
    config = CalibrateConfig(
        scores=f"{tmp_path}/scores", output=str(tmp_path / "t"), prefix="b/good"
    )
    with pytest.raises(CannotRunError, match=r"begins with file:///.*/b/good; .* s3://b/good/1"):
        calibrate_model(config)
    found = replace(config, prefix="s3a://b/good/", false_alarm_rate=0.5, measure=("score",))
    assert calibrate_model(found).limits.keys() == {"bolt", "nut"}


def test_the_run_that_scores_says_which_model_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output holds rows of an older model, which are left out. Without Ray."""

    def score(config: ScoreConfig) -> RunReport:
        assert type(config) is ScoreConfig
        assert config.input == ("good",)
        old = [scored("s3://b/in", i, 0.9) for i in range(50)]
        new = [scored("s3://b/in", i, i / 100) for i in range(40)]
        for rows, model in ((old, "old"), (new, "new")):
            for row in rows:
                row |= {"map_max": row["score"], "anomalous_area": row["score"]}
            write(config.output, rows, "2026-01-01", model=model)
        return RunReport(run_id="run", settings={}, model="new", status=status, message="too many")

    monkeypatch.setattr(calibrating, "score_bucket", score)
    config = CalibrateConfig(input=("good",), output=str(tmp_path / "a"), false_alarm_rate=0.5)
    status = "done"
    found = calibrate_model(config)
    assert found.model == "new"
    assert found.limits["nut"]["score"].num_images == 20
    assert found.values()["nut"] < 0.4
    status = "too_many_errors"
    with pytest.raises(CalibrationError, match="too many"):
        calibrate_model(replace(config, output=str(tmp_path / "b")))
    assert not (tmp_path / "b" / "thresholds.json").exists()


def test_thresholds_are_of_the_newest_references_of_each_category(tmp_path: Path) -> None:
    """Bolts were scored without references, then with some; nuts never had any. Without Ray."""
    output = f"{tmp_path}/scores"
    for day, references in enumerate(({}, {"bolt": "1"}), 1):
        rows = [scored("s3://b/in", i, day / 10) for i in range(40)]
        for row in rows:
            row |= {"map_max": row["score"], "anomalous_area": row["score"]}
        write(output, rows, f"2026-01-0{day}", references=references)
    config = CalibrateConfig(scores=output, output=str(tmp_path / "t"), false_alarm_rate=0.5)
    found = calibrate_model(config)
    assert (found.model, found.references) == ("m", {"bolt": "1"})
    assert {name: each["score"].num_images for name, each in found.limits.items()} == {
        "bolt": 20,
        "nut": 20,
    }
    assert found == read_calibration(f"{tmp_path}/t/thresholds.json")


def test_the_run_that_scores_says_which_references_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(config: ScoreConfig) -> RunReport:
        for day, references in enumerate(({"bolt": "1"}, {"bolt": "2"}), 1):
            rows = [scored("s3://b/in", i, day / 10) for i in range(40)]
            for row in rows:
                row |= {"map_max": row["score"], "anomalous_area": row["score"]}
            write(config.output, rows, f"2026-01-0{day}", references=references)
        return RunReport(
            run_id="run", settings={}, model="m", references={"bolt": "1"}, status="done"
        )

    monkeypatch.setattr(calibrating, "score_bucket", score)
    config = CalibrateConfig(input=("good",), output=str(tmp_path), false_alarm_rate=0.5)
    found = calibrate_model(config)
    assert found.references == {"bolt": "1"}
    assert found.values()["bolt"] == pytest.approx(0.1)
    assert found.values()["nut"] == pytest.approx(0.2), "the newest row"
