"""Run a job on a cluster and end with its own exit code:

``python jobs/submit.py --address http://head:8265 -- python jobs/score_bucket.py --input ...``

Like ``ray job submit``, which ends with 0 for a job that was stopped, so that a scheduler takes a
stopped night for a complete one.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace
from typing import Literal

import tyro

from pipeline import command
from pipeline.config.checks import refuse_credentials
from pipeline.distributed.submitting import submit

END = "--"
GOES_ON = "the job goes on; `ray job stop` ends it"


@dataclass(frozen=True, kw_only=True)
class SubmitConfig:
    """Run a job on a cluster, show what it prints, and end with its own exit code.

    The command stands behind "--". Exit codes: the command's own; 130 if it was stopped
    before it could tell; 1 if it was lost; 2 if it can't be submitted.
    """

    address: str | None = None
    """Job server of the cluster, such as http://head:8265. Default: $RAY_API_SERVER_ADDRESS, or
    the cluster of this machine. A token comes from $RAY_AUTH_TOKEN."""
    working_dir: str | None = None
    """Folder to upload. Default: the command finds its files in the cluster's image."""
    entrypoint: tyro.conf.Suppress[tuple[str, ...]] = ()
    """What stands behind "--"."""
    log_format: Literal["text", "json"] = "text"
    """json: what is said here, but for the job's own output, as lines of JSON on standard error."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        refuse_credentials(self)

    def remarks(self) -> list[str]:
        """None."""
        return []


def main(arguments: list[str] | None = None) -> int:
    """Parse, submit, follow; returns the exit code."""
    return command.run(lambda: parse(arguments), work, goes_on=GOES_ON)


def parse(arguments: list[str] | None = None) -> SubmitConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong.

    Raises:
        ValueError: there is no command.
    """
    given = sys.argv[1:] if arguments is None else arguments
    split = given.index(END) if END in given else len(given)
    config = command.parse(SubmitConfig, "submit.py", given[:split])
    if not given[split + 1 :]:
        raise ValueError(f'give the command behind "{END}", as in -- python jobs/score_bucket.py')
    return replace(config, entrypoint=tuple(given[split + 1 :]))


def work(config: SubmitConfig, console: command.Console) -> int:
    """Submit and follow; returns the command's exit code."""
    entrypoint = shlex.join(config.entrypoint)
    return submit(config.address, entrypoint, working_dir=config.working_dir, say=console.say)


if __name__ == "__main__":
    sys.exit(main())
