"""Score a bucket: ``python jobs/score_bucket.py --help``.

Run it directly (starts a local Ray), or on a cluster:
``ray job submit --working-dir . -- python jobs/score_bucket.py --input ... --output ...``
"""

from __future__ import annotations

import sys

from pipeline.config import NONE, ScoreConfig
from pipeline.distributed import entry
from pipeline.distributed.scoring import score_bucket

GOES_ON = "finished rows are written, the same command goes on from here"


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    return entry.run(lambda: parse(arguments).on_this_machine(), score, goes_on=GOES_ON)


def parse(arguments: list[str] | None = None) -> ScoreConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return entry.parse(ScoreConfig, "score_bucket.py", arguments)


def score(config: ScoreConfig, console: entry.Console) -> int:
    """Score and show; returns the exit code."""
    if NONE in (config.backbone_weights, config.checkpoint):
        console.warn("random weights; the scores mean nothing")
    report = score_bucket(config, say=console.say)
    print(report.table())
    if report.status != "done":
        return console.fail(report.message, entry.FAILED)
    return entry.DONE


if __name__ == "__main__":
    sys.exit(main())
