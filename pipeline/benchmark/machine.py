"""The machine that is measured: its parts, how busy it is, and fresh processes on it."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pipeline.allocator import ARROW_POOL, arrow_from_the_system

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

STOP_TIMEOUT_S = 30.0  # for a measuring process to stop the Ray that it started


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and GPUs of this machine.

    Asking starts CUDA, which takes GPU memory as long as this process lives.
    """
    import torch  # not above: a driver, measured in a process of its own, has none

    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if "model name" in line]
    found = {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": None,
        "num_gpus": torch.cuda.device_count(),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"], found["gpu_memory_bytes"] = properties.name, properties.total_memory
    return found


def in_own_process(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Call a function in a fresh interpreter: peak memory is a process's.

    The function must be importable, its arguments and result picklable. What it raises is raised
    here; when this process is interrupted, the other one is as well.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, function, args, kwargs))
    with arrow_from_the_system():  # as in a command's own process
        process.start()
    there.close()
    try:
        done, result = here.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the measuring process ended with code {process.exitcode}") from None
    except BaseException:
        os.kill(process.pid or 0, signal.SIGINT)
        process.join(STOP_TIMEOUT_S)
        process.kill()
        raise
    finally:
        process.join()
    if not done:
        raise result
    answer: Result = result
    return answer


def _answer(
    there: Connection, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    os.environ.pop(ARROW_POOL, None)  # Arrow is there by now, and Ray's workers have another
    try:
        there.send((True, function(*args, **kwargs)))
    except Exception as error:
        there.send((False, error))


class BusyCPUs:
    """Share of this machine's CPU time that any process used since; Linux only."""

    def __init__(self) -> None:
        self._before = _ticks()

    def share(self) -> float | None:
        """0 to 1, or None where the kernel doesn't tell."""
        now = _ticks()
        if self._before is None or now is None:
            return None
        busy, total = (late - early for late, early in zip(now, self._before, strict=True))
        return round(busy / total, 3) if total else None


def _ticks() -> tuple[int, int] | None:
    """Busy and all clock ticks since the machine started (proc(5), /proc/stat)."""
    try:
        line = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return None
    user, nice, system, idle, iowait, *others = map(int, line.split()[1:9])
    busy = user + nice + system + sum(others)
    return busy, busy + idle + iowait
