"""Which of a cluster's processes is which, and how they end without warning."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from infra.local import descendants

# Titles that Ray gives its workers while they run a task or hold an actor.
SCORER = "ray::MapWorker(MapBatches(AnomalyScorer))"
READER = "MapBatches(read_images)"  # in one task with the manifest's rows
RAYLET = "raylet/raylet"
POLL_S = 0.02


def find(roots: list[int], title: str) -> list[int]:
    """Processes below some others whose command line holds a text."""
    below = {pid for root in roots for pid in descendants(root)}
    return sorted(pid for pid in below if title in _command(pid))


def kill_one(roots: list[int], title: str, random: Random, *, give_up: Callable[[], bool]) -> bool:
    """SIGKILL a process of a title as soon as there is one; false if it was time to give up."""
    while not give_up():
        if found := find(roots, title):
            with suppress(ProcessLookupError):
                os.kill(random.choice(found), signal.SIGKILL)
                return True
        time.sleep(POLL_S)
    return False


def raylet_log(root: int) -> str:
    """What the raylet below a process logged so far."""
    (raylet,) = find([root], RAYLET)
    (path,) = re.findall(r"--stdout_filepath=([^\0]+)", _command(raylet))
    return Path(path).read_text(errors="replace")


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""
