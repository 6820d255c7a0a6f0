"""Train AdaCLIP on auxiliary data: ``python jobs/train_auxiliary.py --help``.

Run it directly (starts a local Ray), or on a cluster:
``ray job submit --working-dir . -- python jobs/train_auxiliary.py --data ... --output ...``
"""

from __future__ import annotations

import signal
import sys

import ray
import tyro

from pipeline.config import NONE, TrainConfig
from pipeline.distributed.scoring import CannotRunError
from pipeline.distributed.training import TrainingStoppedError, train_auxiliary
from pipeline.storage import StorageError, absolute

DONE, FAILED, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    try:
        config = parse(arguments)
    except ValueError as error:
        return _fail(error, CANNOT_RUN)
    if config.backbone_weights == NONE:
        print("warning: a backbone of random weights knows nothing to build on", file=sys.stderr)
    try:
        ray.init(address=config.address, log_to_driver=False)
        # `ray job stop` ends the job like Ctrl-C does; Ray's own handler would exit at once.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        result = train_auxiliary(config, say=lambda line: print(line, flush=True))
    except CannotRunError as error:
        return _fail(error, CANNOT_RUN)
    except (TrainingStoppedError, StorageError) as error:
        return _fail(f"{error}\nthe same command goes on from the last checkpoint", FAILED)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint")
        return INTERRUPTED
    print(f"model {result.model}, of epoch {result.epoch}")
    print(f"weights: {absolute(config.output)}/adaclip.pth, adaclip.safetensors; model_card.md")
    return DONE


def parse(arguments: list[str] | None = None) -> TrainConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    # Repeated flags append: the second --data must not silently replace the first.
    options = (tyro.conf.UseAppendAction,)
    return tyro.cli(TrainConfig, prog="train_auxiliary.py", args=arguments, config=options)


def _fail(message: object, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
