"""``adaclip score``: score a bucket."""

from __future__ import annotations

import logging

from pipeline import command
from pipeline.config import NONE, ScoreConfig

_log = logging.getLogger(__name__)

GOES_ON = "finished rows are written, the same command goes on from here"


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    return command.run(lambda: parse(arguments).on_this_machine(), score, goes_on=GOES_ON)


def parse(arguments: list[str] | None = None) -> ScoreConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return command.parse(ScoreConfig, "score", arguments)


def score(config: ScoreConfig) -> int:
    """Score and show; returns the exit code."""
    if NONE in (config.backbone_weights, config.checkpoint):
        _log.warning("random weights; the scores mean nothing")
    from pipeline.distributed.scoring import score_bucket

    report = score_bucket(config)
    print(report.table())
    if not report.page_problem:
        print(next_steps(config.output, report.run_id), flush=True)
    if report.status != "done":
        return command.fail(report.message, command.FAILED)
    return command.DONE


def next_steps(output: str, run_id: str) -> str:
    """Where what was found can be looked at."""
    from pipeline.output.layout import PAGE, run_folder  # not above: --help needs none of it
    from pipeline.storage import absolute

    opened = f"pipeline.results.open_results({absolute(output)!r}).top(20)"
    return f"\npage: {run_folder(output, run_id)}/{PAGE}\nnext: open the page; in Python, {opened}"
