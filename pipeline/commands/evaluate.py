"""``adaclip evaluate``: measure AdaCLIP on labelled images."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipeline import command
from pipeline.config import NONE, EvaluateConfig
from pipeline.storage import absolute

if TYPE_CHECKING:
    from pipeline.distributed.evaluation.job import Evaluation

_log = logging.getLogger(__name__)

GOES_ON = "finished scores are written, the same command goes on from here"


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print, write the tables; returns the exit code."""
    return command.run(lambda: parse(arguments), measure, goes_on=GOES_ON)


def parse(arguments: list[str] | None = None) -> EvaluateConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return command.parse(EvaluateConfig, "evaluate", arguments)


def measure(config: EvaluateConfig) -> int:
    """Measure, show and write the tables; returns the exit code."""
    if NONE in (config.backbone_weights, config.checkpoint):
        _log.warning("random weights; the metrics mean nothing")
    from pipeline.distributed.evaluation.job import evaluate
    from pipeline.distributed.evaluation.output import show, write_plots, write_tables

    evaluation = evaluate(config)
    pictures = write_plots(evaluation, config.output) if config.plots else []
    write_tables(evaluation, config.output, pictures)
    show(evaluation)
    print(f"\ntables: {absolute(config.output)}/metrics.md, metrics.csv, metrics.parquet")
    if config.has_protocols:
        print("and beside other images: protocols.md, protocols.csv, protocols.parquet")
    if pictures:
        print(f"pictures: {absolute(config.output)}/plots/")
    return exit_code(evaluation, config.max_error_rate)


def exit_code(evaluation: Evaluation, max_error_rate: float) -> int:
    """``FAILED``, and a line that says so, if too many images could not be used."""
    if evaluation.error_rate <= max_error_rate:
        return command.DONE
    message = (
        f"{evaluation.error_rate:.1%} of the images could not be used, more than "
        f"--max-error-rate {max_error_rate:.1%}; errors.csv names them"
    )
    return command.fail(message, command.FAILED)
