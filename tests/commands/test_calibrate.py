"""The calibration job on existing scores: command line, table, file and exit codes. No Ray."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import ray

from pipeline.calibration import read_calibration
from pipeline.commands.calibrate import main
from tests.outputs import scored, write

COUNT = 400


@pytest.fixture
def scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two nights of good bolts and nuts, one that failed, and a few of another model."""
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray is not needed"))
    rng = np.random.default_rng(0)
    rows = [
        scored("s3://b/good", i, float(rng.random()) / 2)
        | {"map_max": float(rng.random()), "anomalous_area": float(rng.random())}
        for i in range(COUNT)
    ]
    output = str(tmp_path / "scores")
    write(output, [*rows, scored("s3://b/good", 9_999, None)], "2026-01-01")
    others = [scored("s3://b/line", 10_000 + i, 0.9) | {"map_max": 1.0} for i in range(100)]
    write(output, others, "2026-01-02")
    write(output, [row | {"image_id": "f" * 32} for row in others[:1]], "2026-01-02", model="other")
    return output


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "either --input"),
        (["--input", "a", "--scores", "b"], "either --input"),
        (["--scores", "b", "--false-alarm-rate", "0"], "--false-alarm-rate is 0"),
        (["--scores", "b", "--confidence", "95"], "--confidence is 95"),
        (["--scores", "b", "--precision", "bf16"], "--precision goes with --input"),
        (["--scores", "b", "--include", "*.jpg"], "--include goes with --input"),
        (["--scores", "b", "--from-date", "yesterday"], "--from-date"),
        (
            # It read everything and then said that there are 0 models.
            ["--scores", "b", "--from-date", "2026-02-01", "--to-date", "2026-01-31"],
            "--from-date 2026-02-01 is after --to-date 2026-01-31",
        ),
        (["--input", "a", "--prefix", "s3://b"], "--prefix selects rows of --scores"),
        (["--input", "a", "--batch-size", "0"], "--batch-size"),
        (["--scores", "s3://user:pass@b/x"], "--scores holds a password"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_names_the_flag(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["--output", "out", *flags])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert code == 2
    told = capsys.readouterr()
    assert words in " ".join((told.out + told.err).replace("│", " ").split())


def test_thresholds_are_written_and_shown(
    scores: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--scores", scores, "--output", str(tmp_path / "model"), "--fingerprint", "m"]
    code = main([*flags, "--prefix", "s3://b/good/", "--false-alarm-rate", "0.02"])
    assert code == 0
    found = read_calibration(f"{tmp_path}/model/thresholds.json")
    assert {name: each["score"].num_images for name, each in found.limits.items()} == {
        "bolt": 200,
        "nut": 200,
    }
    assert set(found.limits["nut"]) == {"score", "map_max", "anomalous_area"}
    assert 0.4 < found.values()["nut"] < 0.5
    assert found.source == f"file://{scores}"
    shown = capsys.readouterr().out
    assert "nut                         score" in shown
    assert f"{tmp_path}/model/thresholds.json" in shown


def test_too_few_images_fail_and_say_how_many_are_needed(
    scores: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--scores", scores, "--output", str(tmp_path / "t"), "--fingerprint", "m"]
    flags += ["--false-alarm-rate", "0.001", "--to-date", "2026-01-01", "--measure", "score"]
    assert main(flags) == 1
    told = capsys.readouterr()
    assert "2 of 2 categories have too few good images to promise 0.001" in told.err
    assert "they need 2,995" in told.err
    assert told.out.count("too few images") == 2
    limit = read_calibration(f"{tmp_path}/t/thresholds.json").limits["nut"]["score"]
    assert limit.bound == pytest.approx(1 - 0.05 ** (1 / 200))
    assert main([*flags, "--allow-too-few"]) == 0


def test_labels_give_max_f1_as_well(
    scores: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"s3://b/good/{i}.jpg,0" for i in range(COUNT)]
    lines += [f"s3://b/line/{10_000 + i}.jpg,1" for i in range(100)]
    (tmp_path / "labels.csv").write_text("\n".join(["uri,label", *lines]))
    flags = ["--scores", scores, "--output", str(tmp_path), "--fingerprint", "m"]
    code = main([*flags, "--labels", f"{tmp_path}/labels.csv", "--measure", "score"])
    assert code == 1  # 200 good images of a category do not promise 0.01
    found = read_calibration(f"{tmp_path}/thresholds.json")
    assert found.limits["nut"]["score"].num_images == 200
    assert found.max_f1["nut"]["score"].f1 == 1.0
    assert 0.5 < found.values("score", use="max_f1")["nut"] < 0.9
    assert "F1 100.0%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words", "code"),
    [
        (["--category", "nut"], "of 2 models: m (250 images), other (1 images)", 2),
        (["--category", "zipper"], "no row has the category 'zipper'; the table has '", 2),
        (["--fingerprint", "m", "--labels", "nothing.csv"], "--labels can't be used", 2),
        (["--scores", "nowhere"], "holds no scores", 2),
    ],
)
def test_what_can_not_be_calibrated_is_told(
    scores: str,
    tmp_path: Path,
    flags: list[str],
    words: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = flags if "--scores" in flags else ["--scores", scores, *flags]
    assert main(["--output", str(tmp_path / "t"), *given]) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def test_thresholds_json_is_plain(scores: str, tmp_path: Path) -> None:
    main(["--scores", scores, "--output", str(tmp_path), "--fingerprint", "m", "--allow-too-few"])
    document = json.loads((tmp_path / "thresholds.json").read_text())
    assert document["model"] == "m"
    assert set(document["limits"]["bolt"]["score"]) == {
        "value",
        "num_images",
        "num_above",
        "bound",
    }
