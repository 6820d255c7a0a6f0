"""The frame of every command: parse, work, print, and an exit code that tells the truth."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import tyro

from . import logs
from .errors import CannotRunError, ExpectedError

DONE, FAILED, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 130

_log = logging.getLogger(__name__)


class Settings(Protocol):
    """What the frame needs to know of a command's settings."""

    @property
    def log_format(self) -> logs.LogFormat:
        """How progress and errors are told."""

    def remarks(self) -> list[str]:
        """What may not be meant."""


Config = TypeVar("Config")
Job = TypeVar("Job", bound=Settings)


def fail(message: object, code: int) -> int:
    """Tell what was wrong, in lines; returns the code."""
    _log.error("%s", message, extra=logs.OWN_LINES)
    return code


def parse(config: type[Config], name: str, arguments: list[str] | None) -> Config:
    """The settings of a command line (None: this process's); exits with 2 if it is wrong.

    Args:
        config: the settings' class, or a union of them for subcommands.
        name: the command, behind ``adaclip``.

    Raises:
        ValueError: settings that can't work, from the class itself.
    """
    # Repeated flags append: the second --input must not silently replace the first.
    options = (tyro.conf.UseAppendAction,)
    script = Path(sys.argv[0]).name
    is_job = script.endswith(".py") and not script.startswith("__")
    prog = script if is_job else f"adaclip {name}"
    return tyro.cli(config, prog=prog, args=arguments, config=options)


def run(
    prepare: Callable[[], Job],
    work: Callable[[Job], int],
    *,
    goes_on: str,
    failures: tuple[type[Exception], ...] = (),
) -> int:
    """Carry out a command; returns its exit code.

    Args:
        prepare: parses the command line; ValueError = it can't be carried out as given.
        work: does it; returns the exit code.
        goes_on: what the same command does after one that was stopped.
        failures: exceptions of ``work`` whose text tells a user enough, beside ``ExpectedError``.
    """
    logs.escape_unencodable()
    logs.configure()
    try:
        job = prepare()
    except ValueError as error:
        return fail(error, CANNOT_RUN)
    told: tuple[type[Exception], ...] = (ExpectedError, *failures)
    logs.configure(job.log_format)
    for remark in job.remarks():
        _log.warning(remark)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray job stop`, or a scheduler
    try:
        return work(job)
    except CannotRunError as error:
        return fail(error, CANNOT_RUN)
    except told as error:
        return fail("\n".join(filter(None, [str(error), goes_on])), FAILED)
    except KeyboardInterrupt:
        _log.info("; ".join(filter(None, ["interrupted", goes_on])))
        return INTERRUPTED
