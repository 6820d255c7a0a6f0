"""What a result came from: versions, and the memory that a process took."""

from __future__ import annotations

import platform
import resource
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("adaclip-pipeline", "torch", "open_clip_torch", "ray", "pyarrow", "pandas", "pillow")
DECODERS = ("tifffile", "imagecodecs", "pydicom", "pylibjpeg-openjpeg")  # of the extras


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter to a result."""
    return dict(_versions())


@cache  # they are asked for several times a run, and stay while a process does
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a working directory that was never installed
            found[package] = "not installed"
    for package in DECODERS:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def peak_memory_bytes() -> int:
    """Peak resident memory of this process."""
    if sys.platform == "linux":  # getrusage's outlives exec: a child would start at its parent's
        return memory_bytes("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage: bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_bytes(name: str) -> int:
    """A field of /proc/self/status (proc(5)), such as VmRSS; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")
