"""The command line of the training job."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.commands.train import parse

ROOT = Path(__file__).parents[2]


def test_the_defaults_are_the_papers() -> None:
    config = parse(["--data", "mvtec=a", "--output", "out"])
    assert (config.epochs, config.lr, config.batch_size, config.init) == (5, 0.01, 1, "none")
    assert (config.image_size, config.prompt_length, config.prompt_depth) == (518, 5, 4)
    assert (config.model_spec.checkpoint, config.model_spec.precision) == ("none", "fp32")


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
