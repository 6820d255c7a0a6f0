"""Train AdaCLIP on auxiliary data: ``python jobs/train_auxiliary.py --help``.

Run it directly (starts a local Ray), or on a cluster:
``ray job submit --working-dir . -- python jobs/train_auxiliary.py --data ... --output ...``
"""

from __future__ import annotations

import sys

from pipeline.config import NONE, TrainConfig
from pipeline.distributed import entry
from pipeline.distributed.training.job import TrainingStoppedError, train_auxiliary
from pipeline.storage import absolute

GOES_ON = "the same command goes on from the last checkpoint"


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    failures = (TrainingStoppedError,)
    return entry.run(lambda: parse(arguments), train, goes_on=GOES_ON, failures=failures)


def parse(arguments: list[str] | None = None) -> TrainConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return entry.parse(TrainConfig, "train_auxiliary.py", arguments)


def train(config: TrainConfig, console: entry.Console) -> int:
    """Train and say what came out; returns the exit code."""
    if config.backbone_weights == NONE:
        console.warn("a backbone of random weights knows nothing to build on")
    result = train_auxiliary(config, say=console.say)
    print(f"model {result.model}, of epoch {result.epoch}")
    print(f"weights: {absolute(config.output)}/adaclip.pth, adaclip.safetensors; model_card.md")
    return entry.DONE


if __name__ == "__main__":
    sys.exit(main())
