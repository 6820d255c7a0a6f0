"""The command line of the training job."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from pipeline.commands.train import parse
from pipeline.config import TrainConfig

ROOT = Path(__file__).parents[2]


def test_every_field_is_a_flag_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for field in fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')}" in shown


def test_the_defaults_are_the_papers() -> None:
    config = parse(["--data", "mvtec=a", "--output", "out"])
    assert (config.epochs, config.lr, config.batch_size, config.init) == (5, 0.01, 1, "none")
    assert (config.image_size, config.prompt_length, config.prompt_depth) == (518, 5, 4)
    assert config.model_arguments["checkpoint"] is None
    assert config.model_arguments["precision"] == "fp32"


def test_a_repeated_flag_adds_instead_of_replacing() -> None:
    flags = ["--data", "mvtec=a", "--data", "b", "--mosaic-rate", "0.1", "--mosaic-rate", "b=1"]
    config = parse([*flags, "--output", "out", "--no-use-fusion", "--gpus-per-worker", "0"])
    assert (config.data, config.mosaic_rate) == (("mvtec=a", "b"), ("0.1", "b=1"))
    assert (config.use_fusion, config.gpus_per_worker) == (False, 0)


@pytest.mark.parametrize(
    "flags",
    [
        ["--output", "out"],
        ["--data", "a"],
        ["--data", "a", "--output", ""],
        ["--data", "a", "--output", "out", "--precision", "fp16"],
        ["--data", "a", "--output", "out", "--held-out", "0.9"],
        ["--data", "a", "--output", "out", "--lr", "0"],
        ["--data", "a", "--output", "out", "--epochs", "0"],
        ["--data", "a", "--output", "out", "--gpus-per-worker", "0.5"],
        ["--data", "a", "--output", "out", "--prompt-kind", "some"],
    ],
)
def test_a_wrong_command_line_exits_with_2(flags: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(flags)
    assert stopped.value.code == 2


def test_the_script_runs_from_the_repository_without_ray_starting() -> None:
    command = [sys.executable, "jobs/train_auxiliary.py", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "Train AdaCLIP's own weights on labelled auxiliary images" in shown
