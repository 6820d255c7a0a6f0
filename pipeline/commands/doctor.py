"""``adaclip doctor``: whether everything is in place for a run, and how long one would take."""

from __future__ import annotations

from pipeline import command
from pipeline.config import DoctorConfig


def main(arguments: list[str] | None = None) -> int:
    """Parse, look, print; returns the exit code."""
    return command.run(lambda: parse(arguments), work, goes_on="")


def parse(arguments: list[str] | None = None) -> DoctorConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return command.parse(DoctorConfig, "doctor", arguments)


def work(config: DoctorConfig) -> int:
    """Look and tell; returns the exit code."""
    from pipeline.distributed.doctor import examine

    missing = []
    for finding in examine(config):
        print(finding.line(), flush=True)
        missing += [] if finding.ok else [finding.name]
    if missing:
        return command.fail(f"not yet: {', '.join(missing)}", command.FAILED)
    return command.DONE
