"""Servers of other people's, as processes that end with the block."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 60.0


@contextmanager
def running(
    command: list[str], folder: str, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A process, killed at the end: nothing of it is kept.

    Args:
        folder: where its output goes.
    """
    with Path(folder, f"{Path(command[0]).name}-{time.monotonic_ns()}.out").open("wb") as log:
        variables = {**os.environ, **(environment or {})}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=variables)
        try:
            yield
        except BaseException:
            if process.poll() is not None:
                print(f"{command[0]} ended: {Path(log.name).read_text()[-2000:]}", file=sys.stderr)
            raise
        finally:
            process.kill()
            process.wait()


def wait_for(port: int) -> None:
    """Until something listens.

    Raises:
        RuntimeError: nothing does, for a minute.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"nothing listens on port {port}")


def free_port() -> int:
    """A port of this machine's that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
