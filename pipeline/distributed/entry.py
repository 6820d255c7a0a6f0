"""The frame of commands that use Ray: ``pipeline.command``'s, with Ray started before the work."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol, TypeVar

import ray

from pipeline import command
from pipeline.command import CANNOT_RUN, DONE, FAILED, INTERRUPTED, Console, parse

from .errors import CannotRunError

__all__ = ["CANNOT_RUN", "DONE", "FAILED", "INTERRUPTED", "Console", "parse", "run"]


class Settings(command.Settings, Protocol):
    """What the frame needs to know of a job's settings."""

    @property
    def address(self) -> str | None:
        """Ray cluster to use."""


Job = TypeVar("Job", bound=Settings)


def run(
    prepare: Callable[[], Job],
    work: Callable[[Job, Console], int],
    *,
    goes_on: str,
    failures: tuple[type[Exception], ...] = (),
    needs_ray: Callable[[Job], bool] = lambda job: True,
) -> int:
    """Do a job; returns its exit code.

    Args:
        prepare, goes_on, failures: as of ``pipeline.command.run``.
        work: runs with Ray started, if the job needs it; returns the exit code.
        needs_ray: whether a job needs Ray.
    """

    def with_ray(job: Job, console: Console) -> int:
        if needs_ray(job):
            start_ray(job.address)
        return work(job, console)

    return command.run(prepare, with_ray, goes_on=goes_on, failures=failures)


def start_ray(address: str | None) -> None:
    """Connect to a cluster, or start one.

    Raises:
        CannotRunError: it can't be reached or started.
    """
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = f"the Ray cluster at {address} can't be reached" if address else "Ray can't start"
        raise CannotRunError(
            f"{where}: {cause}; check --address and RAY_ADDRESS, or give --address local for a "
            "Ray of this machine"
        ) from error
    # Ray's own handler would exit at once, with nothing written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
