"""The evaluation job: command line, tables on terminal and files, exit codes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.commands.evaluate import exit_code, main, parse
from pipeline.config import AS_IS
from pipeline.distributed.evaluation.job import Evaluation
from pipeline.distributed.evaluation.output import show, write_plots, write_tables
from pipeline.evaluation import METRICS, metrics_table
from pipeline.evaluation.protocols import FEW_SHOT, ZERO_SHOT, protocol_table
from pipeline.evaluation.table import ERRORS
from tests import golden
from tests.bucket import jpeg

ROOT = Path(__file__).parents[2]


def test_a_repeated_flag_adds_instead_of_replacing() -> None:
    config = parse(["--output", "out", "--data", "a", "--data", "mine=s3://b/c=d"])
    assert config.data == ("a", "mine=s3://b/c=d")
    assert config.checkpoint is None


def test_protocols_are_repeated_numbers_or_the_bucket_as_it_is() -> None:
    flags = ["--output", "out", "--data", "a", "--few-shot", "1", "--few-shot", "16"]
    config = parse([*flags, "--unlabelled", "as-is", "--unlabelled", "2.5", "--unlabelled", "0"])
    assert config.few_shot == (1, 16)
    assert config.unlabelled == (AS_IS, 2.5, 0)
    assert config.has_protocols
    assert not parse(flags[:4]).has_protocols


def test_a_model_by_name_is_that_of_the_scoring_and_of_the_references() -> None:
    flags = ["--output", "out", "--data", "a", "--few-shot", "1"]
    for name in ("all", "small"):
        named = parse([*flags, "--model", name])
        assert named.checkpoint is not None
        scored = named.score_config(("l.parquet",), named.checkpoint)
        made = named.references_config("l.parquet", named.checkpoint, "r", unlabelled=True, most=9)
        assert scored.model_spec == made.model_spec
        assert (scored.backbone, scored.checkpoint) == (named.backbone, named.checkpoint)


def test_references_of_a_step_are_made_by_the_model_that_is_measured() -> None:
    config = parse(["--output", "out", "--data", "a", "--few-shot", "1", "--image-size", "336"])
    made = config.references_config("l.parquet", "mine.pth", "refs", unlabelled=True, most=700)
    assert (made.input, made.checkpoint, made.output) == (("l.parquet",), "mine.pth", "refs")
    assert (made.image_size, made.unlabelled, made.max_images_per_category) == (336, True, 700)
    scored = replace(config, references="refs").score_config(("l.parquet",), "mine.pth")
    assert scored.references == "refs"
    assert scored.model_spec == made.score_config().model_spec


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--output", "out"], "--data"),
        (["--output", "out", "--data", ""], "--data"),
        (["--output", "", "--data", "a"], "--output"),
        (["--output", "out", "--data", "a", "--allow-missing"], "--paper"),
        (["--output", "out", "--data", "a", "--fingerprint", "abc"], "--scores"),
        (["--output", "o", "--data", "a", "--scores", "s", "--checkpoint", "all"], "--checkpoint"),
        (["--output", "out", "--data", "a", "--sigma", "-1"], "--sigma"),
        (["--output", "out", "--data", "a", "--few-shot", "0"], "--few-shot"),
        (["--output", "out", "--data", "a", "--unlabelled", "0.2"], "from 1 to below 100"),
        (["--output", "out", "--data", "a", "--unlabelled", "100"], "--unlabelled"),
        (["--output", "out", "--data", "a", "--unlabelled", "nan"], "--unlabelled"),
        (["--output", "out", "--data", "a", "--unlabelled", "test"], "--unlabelled"),
        (["--output", "out", "--data", "a", "--few-shot", "1", "--seeds", "0"], "--seeds"),
        (["--output", "out", "--data", "a", "--references", "auto"], "--unlabelled as-is"),
        (["--output", "o", "--data", "a", "--scores", "s", "--references", "r"], "--references"),
        (["--output", "o", "--data", "a", "--scores", "s", "--few-shot", "1"], "--few-shot"),
        (
            ["--output", "o", "--data", "a", "--few-shot", "1", "--frozen-image-size", "336"],
            "--frozen-image-size",
        ),
        (["--output", "out", "--data", "a", "--max-error-rate", "2"], "--max-error-rate"),
        (["--output", "out", "--data", "a", "--batch-size", "0"], "--batch-size"),
        (["--output", "out", "--data", "a", "--splt", "all"], "--split"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_names_the_flag(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(flags)
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert code == 2
    output = capsys.readouterr()
    assert words in output.out + output.err


def test_the_exit_code_tells_whether_too_many_images_were_unusable(evaluation: Evaluation) -> None:
    assert evaluation.error_rate == 0.25
    assert exit_code(evaluation, 0.0) == 1
    assert exit_code(evaluation, 0.24) == 1
    assert exit_code(evaluation, 0.25) == 0


@pytest.fixture
def evaluation() -> Evaluation:
    """One data set of the paper, one image of which could not be used."""
    row = {"dataset": "visa", "category": "pcb\x1b[2J", "model": "m", "images": 4, "abnormal": 2}
    row |= {"without_mask": 0, "unusable": 1} | dict.fromkeys(METRICS, 0.875)
    error = {"dataset": "visa", "category": "pcb", "uri": "s3://b/x.jpg", "error": "truncated"}
    return Evaluation(
        table=metrics_table([row | dict.fromkeys(ERRORS, 1e-6)]),
        errors=pd.DataFrame([error | {"error_message": "cut short"}]),
        missing=["MPDD"],
        scores=pd.DataFrame(
            {
                "dataset": "visa",
                "category": "pcb\x1b[2J",
                "label": [0, 0, 1],
                "score": [0.1, 0.2, 0.3],
            }
        ),
    )


def test_tables_are_written_in_three_forms(evaluation: Evaluation, tmp_path: Path) -> None:
    write_tables(evaluation, str(tmp_path / "out"), ["plots/01-visa-bars.png"])
    expected = evaluation.table.assign(map_filter="probabilities")
    for form, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        table = read(tmp_path / "out" / f"metrics.{form}")
        pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    text = (tmp_path / "out" / "metrics.md").read_text()
    assert "| average | 4 | 2 | 1 | 87.5 |" in text
    assert "Beside the paper: industrial data sets, image level, 1 of 7" in text
    assert "Not measured, because not there: MPDD." in text
    assert text.endswith("\n![plots/01-visa-bars.png](plots/01-visa-bars.png)\n")
    errors = pd.read_csv(tmp_path / "out" / "errors.csv")
    assert errors.uri.tolist() == ["s3://b/x.jpg"]


@pytest.fixture
def beside(evaluation: Evaluation) -> Evaluation:
    """The same, and beside one good image of two choices."""
    first = evaluation.table.iloc[0].to_dict() | {"amount": None, "seed": None, "reason": ""}
    rows = [first | {"protocol": ZERO_SHOT}]
    for seed, value in enumerate((0.8, 0.9)):
        rows.append(first | dict.fromkeys(METRICS, value) | {"protocol": FEW_SHOT, "seed": seed})
        rows[-1]["amount"] = 1
    return replace(evaluation, protocols=protocol_table(rows))


def test_protocols_have_tables_in_the_same_forms(
    evaluation: Evaluation, beside: Evaluation, tmp_path: Path
) -> None:
    write_tables(evaluation, str(tmp_path), [])
    assert not list(tmp_path.glob("protocols.*"))
    write_tables(beside, str(tmp_path), [])
    for form, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        table = read(tmp_path / f"protocols.{form}")
        assert table[["protocol", "amount", "seed"]].notna().sum().tolist() == [3, 2, 2]
        assert table.pixel_ap.tolist() == [0.875, 0.8, 0.9]
    text = (tmp_path / "protocols.md").read_text()
    assert "| 1 good image, this run | 2 | 85.0 ± 7.1 |" in text
    assert "| 1 good image, WinCLIP+ (CLIP ViT-B-16-plus-240) |  | 83.8 |" in text


def test_the_terminal_shows_protocols_beside_what_was_published(
    beside: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    show(beside)
    shown = capsys.readouterr().out
    assert "1 good image, this run" in shown
    assert "SubspaceAD repository" in shown


def test_pictures_are_written_beside_the_tables(evaluation: Evaluation, tmp_path: Path) -> None:
    shown = write_plots(evaluation, str(tmp_path))
    assert shown == [f"plots/01-visa-{kind}.png" for kind in ("curves", "histograms", "bars")]
    written = {path.name for path in (tmp_path / "plots").iterdir()}
    assert written == {Path(name).with_suffix(s).name for name in shown for s in (".png", ".svg")}


def test_the_terminal_shows_tables_the_paper_and_what_was_left_out(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    show(evaluation)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "85.8 / 83.1  87.5 / 87.5" in shown
    assert "s3://b/x.jpg (pcb): truncated: cut short" in shown
    assert "MPDD" in shown


def test_the_job_measures_a_folder_without_its_broken_image(
    golden_files: dict[str, str], tmp_path: Path, s3: dict[str, str]
) -> None:
    parts = tmp_path / "parts" / "bolt"
    for defect in ("good", "crack"):
        for i in range(2):
            path = parts / "test" / defect / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(i + 10 * (defect == "good")))
            mask = parts / "ground_truth" / "crack" / f"{i}_mask.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(64, 96, dtype=np.uint8) * 255).save(mask)
    (parts / "test" / "good" / "broken.png").write_bytes(b"no image")
    flags = ["--data", str(tmp_path / "parts"), "--output", str(tmp_path / "out")]
    flags += ["--image-size", str(golden.IMAGE_SIZE), "--address", "local"]
    for name, value in golden_files.items():
        flags += [f"--{name.replace('_', '-')}", value]
    command = [sys.executable, "jobs/evaluate.py", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "error: 20.0% of the images could not be used" in done.stderr
    assert "I-AUROC" in done.stdout
    assert pd.read_csv(tmp_path / "out" / "metrics.csv").unusable.tolist() == [1, 1]
    assert (tmp_path / "out" / "plots" / "01-parts-curves.svg").exists()
