"""A job on a cluster's job server, followed to its end: its output here, and its own exit code.

``ray job submit`` ends with 0 for a job that was stopped and 1 for all other ends (Ray 2.60), so a
scheduler would take a night that somebody stopped for a complete one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import aiohttp
from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from pipeline.command import FAILED, INTERRUPTED
from pipeline.errors import CannotRunError

_log = logging.getLogger(__name__)

VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
POLL_S = 2.0
# What uploads, and follows: each sets its own level, and tells of what nobody can act on.
QUIET = (
    *("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"),
    *("ray._private.runtime_env.packaging", "ray._private.runtime_env.working_dir"),
)
# A head that restarts, or a network that fails for a while, is no reason to tell of a lost job.
PATIENCE_S = 300.0


def submit(
    address: str | None,
    entrypoint: str,
    *,
    working_dir: str | None,
    show: Callable[[str], None] = print,
    patience_s: float = PATIENCE_S,
) -> int:
    """Run a command on a cluster; returns its exit code.

    Args:
        address: of the job server, such as http://head:8265; None = $RAY_API_SERVER_ADDRESS,
            $RAY_ADDRESS, or the cluster of this machine.
        entrypoint: the command line.
        working_dir: folder to upload; None = what the cluster's image has.
        show: receives what it prints, as it is.
        patience_s: for so long the job server may be silent.

    Raises:
        CannotRunError: there is no job server, or it does not take the job.
    """
    for module in QUIET:
        logging.getLogger(module).setLevel(logging.ERROR)
    runtime_env = {"working_dir": working_dir} if working_dir else {}
    try:
        with _without_variables() if address else nullcontext():
            client = JobSubmissionClient(address)
        job = client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env)
    except (RayError, RuntimeError, ValueError, OSError) as error:
        raise CannotRunError(
            f"the job can't be submitted to {address or 'this machine'}: {error}; check --address "
            "and RAY_AUTH_TOKEN"
        ) from error
    _log.info(f"submitted {job}; `ray job stop {job}` ends it after its last commit")
    return _follow(client, job, _Shown(show), patience_s)


@contextmanager
def _without_variables() -> Iterator[None]:
    """Ray's variables would win over the address that is given."""
    kept = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _follow(client: Any, job: str, shown: _Shown, patience_s: float) -> int:
    heard = time.monotonic()
    while True:
        try:
            asyncio.run(shown.follow(client.tail_job_logs(job)))
            info = client.get_job_info(job)
        except (RayError, RuntimeError, OSError, aiohttp.ClientError) as error:
            if time.monotonic() - heard > patience_s:
                _log.info(
                    f"{job}: the job server is silent: {error}; what became of the job is unknown"
                )
                return FAILED
        else:
            heard = time.monotonic()
            if info.status.is_terminal():
                _log.info(f"{job}: {info.status}")
                return _code(info)
        time.sleep(POLL_S)


class _Shown:
    """Shows what a job prints, once, however often it is followed from its beginning."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show, self._length = show, 0

    async def follow(self, texts: AsyncIterator[str]) -> None:
        position = 0
        async for text in texts:
            new = text[max(self._length - position, 0) :]
            position += len(text)
            self._length = max(self._length, position)
            if new:
                self._show(new.rstrip("\n"))


def _code(info: Any) -> int:
    """The command's own exit code; of one that was stopped before it could tell, INTERRUPTED."""
    if info.status == JobStatus.SUCCEEDED:
        return 0
    unknown = INTERRUPTED if info.status == JobStatus.STOPPED else FAILED
    code = info.driver_exit_code
    return code if code is not None and 0 < code < 256 else unknown
