"""Score a bucket: ``python jobs/score_bucket.py --help``.

Run it directly (starts a local Ray), or on a cluster:
``ray job submit --working-dir . -- python jobs/score_bucket.py --input ... --output ...``
"""

from __future__ import annotations

import signal
import sys

import ray
import tyro

from pipeline.config import NONE, ScoreConfig
from pipeline.distributed.scoring import CannotRunError, score_bucket
from pipeline.storage import StorageError

DONE, FAILED, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    try:
        config = parse(arguments)
    except ValueError as error:
        return _fail(error, CANNOT_RUN)
    if NONE in (config.backbone_weights, config.checkpoint):
        print("warning: random weights; the scores mean nothing", file=sys.stderr)
    try:
        ray.init(address=config.address, log_to_driver=False)
        # `ray job stop` ends the job like Ctrl-C does; Ray's own handler would exit at once.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        report = score_bucket(config, say=lambda line: print(line, flush=True))
    except CannotRunError as error:
        return _fail(error, CANNOT_RUN)
    except StorageError as error:
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        print("interrupted; finished rows are written, the same command goes on from here")
        return INTERRUPTED
    print(report.table())
    if report.status != "done":
        return _fail(report.message, FAILED)
    return DONE


def parse(arguments: list[str] | None = None) -> ScoreConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    # Repeated flags append: the second --input must not silently replace the first.
    options = (tyro.conf.UseAppendAction,)
    return tyro.cli(ScoreConfig, prog="score_bucket.py", args=arguments, config=options)


def _fail(message: object, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
