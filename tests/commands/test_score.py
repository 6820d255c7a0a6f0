"""The command line of the scoring job."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import ray

from pipeline.commands import references, score
from pipeline.commands.score import parse
from pipeline.config import ScoreConfig

ROOT = Path(__file__).parents[2]
NAMED_IN_THE_DESIGN = """
--input --output --category --category-regex --backbone --backbone-weights --checkpoint
--image-size --batch-size --precision --num-actors --gpus-per-actor --max-error-rate
--scan-date --address
"""


def test_every_field_is_a_flag_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for flag in NAMED_IN_THE_DESIGN.split():
        assert flag in shown
    for field in fields(ScoreConfig):
        assert f"--{field.name.replace('_', '-')}" in shown


def test_a_repeated_flag_adds_instead_of_replacing() -> None:
    flags = ["--output", "out", "--input", "a", "--input", "b", "--include", "*.jpg"]
    config = parse([*flags, "--gpus-per-actor", "0.5", "--no-maps"])
    assert (config.input, config.include) == (("a", "b"), ("*.jpg",))
    assert (config.gpus_per_actor, config.maps) == (0.5, False)


@pytest.mark.parametrize(
    "flags",
    [
        ["--output", "out"],
        ["--input", "a"],
        ["--input", "a", "--output", "out", "--precision", "fp8"],
        ["--input", "a", "--output", "out", "--max-error-rate", "5"],
        ["--input", "a", "--output", "out", "--sacn-date", "2026-01-01"],
    ],
)
def test_a_wrong_command_line_exits_with_2(flags: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(flags)
    assert stopped.value.code == 2


def test_the_script_runs_from_the_repository_without_ray_starting() -> None:
    command = [sys.executable, "jobs/score_bucket.py", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "Score every image below one or more prefixes" in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input", "nowhere"], "--input nowhere: there is no such file or folder here"),
        (["--input", "file:///no/where"], "--input file:///no/where: there is no such"),
        (["--checkpoint", "models/mine.pth"], "--checkpoint models/mine.pth: there is no such"),
        (["--checkpoint", "vsia.pt"], "nor released weights (mvtec_colondb"),
        (["--backbone-weights", "./clip.safetensors"], "nor an open_clip tag"),
    ],
)
def test_a_local_path_with_a_mistake_is_told_before_ray_starts(
    flags: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", started)
    (tmp_path / "in").mkdir()
    output = tmp_path / "out"
    given = [] if "--input" in flags else ["--input", str(tmp_path / "in")]
    for main in (score.main, references.main):
        assert main([*flags, *given, "--output", str(output)]) == 2
        assert message in capsys.readouterr().err
    assert not output.exists()
