"""``adaclip submit -- COMMAND``: run a job on a cluster and end with its own exit code.

Like ``ray job submit``, which ends with 0 for a job that was stopped, so that a scheduler takes a
stopped night for a complete one.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from functools import partial

from pipeline import command
from pipeline.config.submit import SubmitConfig
from pipeline.distributed.submitting import submit

END = "--"
GOES_ON = "the job goes on; `ray job stop` ends it"


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
    config = command.parse(SubmitConfig, "submit", given[:split])
    if not given[split + 1 :]:
        raise ValueError(f'give the command behind "{END}", as in -- python jobs/score_bucket.py')
    return replace(config, entrypoint=tuple(given[split + 1 :]))


def work(config: SubmitConfig) -> int:
    """Submit and follow; returns the command's exit code."""
    entrypoint = shlex.join(config.entrypoint)
    return submit(
        config.address,
        entrypoint,
        working_dir=config.working_dir,
        show=partial(print, flush=True),
    )
