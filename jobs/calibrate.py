"""Thresholds from known-good images: ``python jobs/calibrate.py --help``.

From existing scores (--scores) it needs no Ray; with --input it scores first, on a local Ray or a
cluster: ``ray job submit --working-dir . -- python jobs/calibrate.py --input ... --output ...``
"""

from __future__ import annotations

import sys

from pipeline.calibration import Calibration, CalibrationError, as_text
from pipeline.config import NONE, CalibrateConfig
from pipeline.distributed import entry
from pipeline.distributed.calibrating import THRESHOLDS, calibrate_model
from pipeline.storage import absolute
from pipeline.terminal import clean

GOES_ON = "finished scores are written, the same command goes on from here"
MAX_LINE = 240


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    return entry.run(
        lambda: parse(arguments).on_this_machine(),
        work,
        goes_on=GOES_ON,
        failures=(CalibrationError,),
        needs_ray=lambda config: config.scores is None,
    )


def parse(arguments: list[str] | None = None) -> CalibrateConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return entry.parse(CalibrateConfig, "calibrate.py", arguments)


def work(config: CalibrateConfig, console: entry.Console) -> int:
    """Calibrate and show; returns the exit code."""
    if config.scores is None and NONE in (config.backbone_weights, config.checkpoint):
        console.warn("random weights; the thresholds mean nothing")
    calibration = calibrate_model(config, say=lambda line: console.say(clean(line, MAX_LINE)))
    for line in as_text(calibration).split("\n"):
        print(clean(line, MAX_LINE))
    print(f"\nthresholds: {absolute(config.output)}/{THRESHOLDS}", flush=True)
    return exit_code(calibration, config.allow_too_few, console)


def exit_code(calibration: Calibration, allow_too_few: bool, console: entry.Console) -> int:
    """``FAILED``, and a line that says so, if categories have too few images."""
    if allow_too_few or not calibration.too_few:
        return entry.DONE
    message = (
        f"{len(calibration.too_few):,} of {len(calibration.limits):,} categories have too few good "
        f"images to promise {calibration.false_alarm_rate:.3g} (they need "
        f"{calibration.num_needed:,}); the table tells what theirs promise. Give more images, "
        "a larger --false-alarm-rate, or --allow-too-few"
    )
    return console.fail(message, entry.FAILED)


if __name__ == "__main__":
    sys.exit(main())
