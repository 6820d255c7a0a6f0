"""``adaclip references``: make references that images are compared with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipeline import command
from pipeline.config import NONE, BuildReferencesConfig
from pipeline.storage import absolute
from pipeline.terminal import clean

if TYPE_CHECKING:
    from pipeline.distributed.references.sets import Built

_log = logging.getLogger(__name__)

GOES_ON = "finished categories are written, the same command goes on from here"


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    return command.run(lambda: parse(arguments).on_this_machine(), build, goes_on=GOES_ON)


def parse(arguments: list[str] | None = None) -> BuildReferencesConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return command.parse(BuildReferencesConfig, "references", arguments)


def build(config: BuildReferencesConfig) -> int:
    """Build and show; returns the exit code."""
    if NONE in (config.backbone_weights, config.checkpoint):
        _log.warning("random weights; the references mean nothing")
    from pipeline.distributed.references.job import build_references

    built = build_references(config)
    print(table(built))
    print(f"\nreferences: {absolute(config.output)}/references.json")
    return exit_code(built, config.max_error_rate)


def table(built: Built) -> str:
    """What was made, for a terminal."""
    lines = [f"model {built.catalogue.model}", ""]
    lines += [f"  {'category':<28}{'images':>8}{'looked at':>11}{'abnormal':>10}  made"]
    for name, each in built.catalogue.sets.items():
        share = f"{each.abnormal_share:.1%}" if each.unlabelled else "-"
        made = "now" if name in built.made else each.created
        counts = f"{each.num_images:>8,}{each.num_looked_at:>11,}{share:>10}"
        lines.append(f"  {clean(name, 26):<28}{counts}  {made}")
    without = [name for name in built.failed if name not in built.catalogue.sets]
    lines += [f"  {clean(name, 26):<28}no references" for name in without]
    for code, count in built.unusable.most_common():
        lines.append(f"  {count:,} images can't be used: {code}")
    return "\n".join(lines)


def exit_code(built: Built, max_error_rate: float) -> int:
    """``FAILED``, and why, if a category gets no references or too many images can't be read."""
    if built.failed:
        reasons = [
            f"nothing was added to {name!r}: {why}"
            if name in built.catalogue.sets
            else f"{name!r} has no references: {why}"
            for name, why in built.failed.items()
        ]
        return command.fail("\n".join(reasons), command.FAILED)
    if built.error_rate > max_error_rate:
        message = (
            f"{built.error_rate:.1%} of the images can't be used, more than --max-error-rate "
            f"{max_error_rate:.1%}; references.json names them"
        )
        return command.fail(message, command.FAILED)
    return command.DONE
