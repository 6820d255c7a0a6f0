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

DONE, FAILED, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    try:
        config = tyro.cli(ScoreConfig, prog="score_bucket.py", args=arguments)
    except ValueError as error:
        return _fail(error)
    if NONE in (config.backbone_weights, config.checkpoint):
        print("warning: random weights; the scores mean nothing", file=sys.stderr)
    try:
        ray.init(address=config.address, log_to_driver=False)
        # `ray job stop` ends the job like Ctrl-C does; Ray's own handler would exit at once.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        report = score_bucket(config, say=lambda line: print(line, flush=True))
    except CannotRunError as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("interrupted; finished rows are written, the same command goes on from here")
        return INTERRUPTED
    print(report.table())
    if report.status != "done":
        print(f"error: {report.message}", file=sys.stderr)
        return FAILED
    return DONE


def _fail(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main())
