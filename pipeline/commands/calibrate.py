"""``adaclip calibrate``: thresholds from known-good images."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipeline import command
from pipeline.config import NONE, CalibrateConfig
from pipeline.storage import absolute
from pipeline.terminal import clean_lines

if TYPE_CHECKING:
    from pipeline.calibration import Calibration

_log = logging.getLogger(__name__)

GOES_ON = "finished scores are written, the same command goes on from here"


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    return command.run(lambda: parse(arguments).on_this_machine(), work, goes_on=GOES_ON)


def parse(arguments: list[str] | None = None) -> CalibrateConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return command.parse(CalibrateConfig, "calibrate", arguments)


def work(config: CalibrateConfig) -> int:
    """Calibrate and show; returns the exit code."""
    if config.scores is None and NONE in (config.backbone_weights, config.checkpoint):
        _log.warning("random weights; the thresholds mean nothing")
    from pipeline.calibration import as_text
    from pipeline.distributed.calibrating import THRESHOLDS, calibrate_model

    calibration = calibrate_model(config)
    print(clean_lines(as_text(calibration)))
    print(f"\nthresholds: {absolute(config.output)}/{THRESHOLDS}", flush=True)
    return exit_code(calibration, config.allow_too_few)


def exit_code(calibration: Calibration, allow_too_few: bool) -> int:
    """``FAILED``, and a line that says so, if categories have too few images."""
    if allow_too_few or not calibration.too_few:
        return command.DONE
    message = (
        f"{len(calibration.too_few):,} of {len(calibration.limits):,} categories have too few good "
        f"images to promise {calibration.false_alarm_rate:.3g} (they need "
        f"{calibration.num_needed:,}); the table tells what theirs promise. Give more images, "
        "a larger --false-alarm-rate, or --allow-too-few"
    )
    return command.fail(message, command.FAILED)
