"""``adaclip train``: train AdaCLIP on auxiliary data."""

from __future__ import annotations

import logging

from pipeline import command
from pipeline.config import NONE, TrainConfig
from pipeline.storage import absolute

_log = logging.getLogger(__name__)

GOES_ON = "the same command goes on from the last checkpoint"


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    return command.run(lambda: parse(arguments), train, goes_on=GOES_ON)


def parse(arguments: list[str] | None = None) -> TrainConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return command.parse(TrainConfig, "train", arguments)


def train(config: TrainConfig) -> int:
    """Train and say what came out; returns the exit code."""
    if config.backbone_weights == NONE:
        _log.warning("a backbone of random weights knows nothing to build on")
    from pipeline.distributed.training.job import train_auxiliary

    result = train_auxiliary(config)
    print(f"model {result.model}, of epoch {result.epoch}")
    print(f"weights: {absolute(config.output)}/adaclip.pth, adaclip.safetensors; model_card.md")
    return command.DONE
