"""The frame of every command: parse, work, print, and an exit code that tells the truth."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from . import logs, usage
from .allocator import arrow_from_the_system
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


def parse(config: type[Config], name: str, arguments: Sequence[str] | None) -> Config:
    """The settings of a command line; exits with 2 if it is wrong, with 0 if it asks for help.

    Args:
        config: the settings' class.
        name: the command, behind ``adaclip``.
        arguments: default: this process's.

    Raises:
        ValueError: settings that can't work, from the class itself.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    program = _program(name)
    if asked := usage.asks(given):
        print(usage.usage(config, program, complete=asked == usage.HELP_ALL))
        raise SystemExit(DONE)
    _refuse_expanded(given)
    import tyro  # not above: --help and what is wrong with a name need none of its time

    # Repeated flags append: the second --input must not silently replace the first.
    return tyro.cli(config, prog=program, args=given, config=(tyro.conf.UseAppendAction,))


def parse_one_of(
    configs: Mapping[str, type[Config]], name: str, arguments: Sequence[str] | None
) -> Config:
    """The same for a command with subcommands, of which the first argument names one."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in configs:
        return parse(configs[given[0]], f"{name} {given[0]}", given[1:])
    told = usage.asks(given) is not None
    print(usage.choices(configs, _program(name)), file=sys.stdout if told else sys.stderr)
    raise SystemExit(DONE if told else CANNOT_RUN)


def _program(name: str) -> str:
    """How this command was called."""
    script = Path(sys.argv[0]).name
    is_job = script.endswith(".py") and not script.startswith("__")
    return " ".join([script, *name.split()[1:]]) if is_job else f"adaclip {name}"


def _refuse_expanded(arguments: Sequence[str]) -> None:
    """Files behind a flag's first value: a shell has put them where a pattern stood."""
    flag, values = "", list[str]()
    for each in [*arguments, "--"]:
        if not each.startswith("--"):
            values.append(each)
            continue
        if flag and len(values) > 1 and all(Path(value).is_file() for value in values):
            raise ValueError(
                f"{flag} is followed by {len(values):,} files, {values[0]} to {values[-1]}: the "
                "shell has put them where a pattern stood; name their folder, with --include "
                f'"*{Path(values[0]).suffix}" in quotation marks for some of it'
            )
        flag, values = each, []


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
    with arrow_from_the_system():
        import pyarrow  # noqa: F401  # it looks once, and nearly every command needs it now
    try:
        return work(job)
    except CannotRunError as error:
        return fail(error, CANNOT_RUN)
    except told as error:
        return fail("\n".join(filter(None, [str(error), goes_on])), FAILED)
    except KeyboardInterrupt:
        _log.info("; ".join(filter(None, ["interrupted", goes_on])))
        return INTERRUPTED
