"""Ray as the jobs use it: its terminal, a connection to measure with, and its object stores."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from pipeline.config import ScoreConfig, is_local
from pipeline.errors import CannotRunError
from pipeline.redaction import redact

from .resources import Resources, node_cpus

if TYPE_CHECKING:
    from ray.data import DataContext

Result = TypeVar("Result")

WATCH_INTERVAL_S = 0.5
HEAD_STARTS_S = 30.0  # until a head node that is being started listens


@dataclass
class ObjectStoreUse:
    """What was seen of the object stores of all nodes together."""

    peak_bytes: int = 0
    spilled_bytes: int = 0


def quiet_data() -> DataContext:
    """Ray Data's settings in this process, with nothing on the terminal that users can't act on.

    That is its progress bars, beside ours, and boxes that tell how much memory a worker takes.
    """
    from ray.data import DataContext  # not above: with pandas 40 MB and a second of every driver

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.issue_detectors_config.high_memory_detector_config.detection_time_interval_s = -1
    return context


def start(address: str | None) -> None:
    """Connect to a cluster, or start one, unless this process is connected.

    Raises:
        CannotRunError: it can't be reached or started.
    """
    if ray.is_initialized():
        return
    # Ray's own lines are for its developers: of tokens, dashboards, and on every run of Ray Data an
    # "error" about restarts of actors. What ends a run comes as an exception all the same.
    logging.getLogger("ray").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    named = address or os.environ.get("RAY_ADDRESS")
    try:
        await_head(named)
        with _without(b"Set ray log level from environment"):  # which tells of itself, once
            ray.init(
                address=address,
                include_dashboard=False,  # of one that is started here, and that ends with the job
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = f"the Ray cluster at {named} can't be reached" if named else "Ray can't start"
        raise CannotRunError(
            f"{where}: {cause}; check --address and RAY_ADDRESS, or give --address local for a "
            "Ray of this machine"
        ) from error
    # Ray's own handler would exit at once, with nothing written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def await_head(address: str | None, within_s: float = HEAD_STARTS_S) -> None:
    """Return once something listens at a cluster's address; at once for any other address.

    Ray itself waits more than ten minutes for a cluster that is not there.

    Args:
        address: as of ``ray.init``.
        within_s: how long it may take.

    Raises:
        OSError: nothing listens there.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()) or "://" in host:  # "local", or what Ray refuses by itself
        return
    end = time.monotonic() + within_s
    while True:
        try:
            left = max(end - time.monotonic(), 1.0)
            socket.create_connection((host.strip("[]"), int(port)), timeout=left).close()
            return
        except OSError:
            if time.monotonic() >= end:
                raise
            time.sleep(min(1.0, within_s))


@contextmanager
def _without(unwanted: bytes) -> Iterator[None]:
    """Standard error, of libraries in C++ too, comes after the block and without some lines."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        terminal = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            os.write(2, b"".join(line for line in held if unwanted not in line))


def planned(config: ScoreConfig) -> Resources:
    """How the scorers of a job are laid out on its cluster, which is started if need be.

    Raises:
        CannotRunError: there is no such cluster, or it has too few CPUs for the job.
    """
    start(config.address)
    return Resources.plan(config, ray.cluster_resources(), node_cpus())


@contextmanager
def connected(
    address: str | None, *, num_cpus: int | None = None, simulated_gpus: int = 0
) -> Iterator[None]:
    """Use a cluster, or start one for the length of the block.

    Args:
        address: as of ``ray.init``; None = ``$RAY_ADDRESS``, else a new, local one.
        num_cpus: of a new one; default: those of the machine, at least 2.
        simulated_gpus: GPUs that a new one pretends to have.
    """
    if is_local(address):
        ray.init(
            address="local",
            num_cpus=num_cpus or max(2, len(os.sched_getaffinity(0))),
            num_gpus=simulated_gpus or None,
            include_dashboard=False,
            log_to_driver=False,
        )
    else:
        await_head(address or os.environ.get("RAY_ADDRESS"))
        ray.init(address=address, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def run_as_scorer(config: ScoreConfig, function: Callable[..., Result], *args: Any) -> Result:
    """Call a function in a task that gets a scorer's GPU or CPUs, on any node that has them.

    Args:
        config: of the job whose scorer it would be.
        function: importable on the cluster; what it raises is raised here.

    Raises:
        CannotRunError: the cluster has too few CPUs for the job.
    """
    plan = planned(config)
    remote = ray.remote(
        num_gpus=plan.gpus_per_actor,
        num_cpus=plan.cpus_per_actor,
        max_calls=1,  # a process of its own, whose memory and CUDA context end with it
        max_retries=0,
    )
    task = remote(function)
    try:
        result: Result = ray.get(task.remote(*args))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return result


def in_a_task(address: str | None, function: Callable[..., Result], *args: Any) -> Result:
    """Call a function in a task on a CPU of the cluster, whose memory ends with it.

    Raises:
        CannotRunError: there is no such cluster, or the function raises a ValueError.
    """
    start(address)
    try:
        result: Result = ray.get(ray.remote(num_cpus=1, max_retries=0)(function).remote(*args))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError):
            raise CannotRunError(redact(str(error.cause))) from None
        raise
    return result


def num_nodes() -> int:
    """Nodes that are alive."""
    return sum(bool(node["Alive"]) for node in ray.nodes())


@contextmanager
def watched_object_stores() -> Iterator[ObjectStoreUse]:
    """Look at the object stores from time to time while the block runs."""
    seen, stopped = ObjectStoreUse(), threading.Event()
    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    before = get_memory_info_reply(state).store_stats.spilled_bytes_total

    def watch() -> None:
        while True:
            stats = get_memory_info_reply(state).store_stats
            seen.peak_bytes = max(seen.peak_bytes, stats.object_store_bytes_used)
            seen.spilled_bytes = stats.spilled_bytes_total - before
            if stopped.wait(WATCH_INTERVAL_S):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        stopped.set()
        watcher.join()
