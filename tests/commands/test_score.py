"""The command line of the scoring job."""

from __future__ import annotations

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


def test_every_flag_of_the_design_is_a_setting() -> None:
    flags = {f"--{field.name.replace('_', '-')}" for field in fields(ScoreConfig)}
    assert {*NAMED_IN_THE_DESIGN.split()} <= flags


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
