"""CPU time and memory of a job's processes, looked up from outside while they run; Linux only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Process:
    """One process, as it was last seen."""

    name: str
    """Its title, or the end of its program's path."""
    cpu_s: float
    """User and system time of all its threads."""
    loads_pytorch: bool = False


class ProcessTree:
    """A process and all below it, of those that ended too what they had taken when last seen."""

    def __init__(self, pid: int) -> None:
        """Nothing is looked up yet.

        Args:
            pid: of the process at the top, which need not be this one's child.
        """
        self._top = pid
        self._seen: dict[tuple[int, int], Process] = {}

    @property
    def processes(self) -> list[Process]:
        """All that were seen, the busiest first."""
        return sorted(self._seen.values(), key=lambda process: -process.cpu_s)

    @property
    def cpu_s(self) -> float:
        """Seconds of all processes together."""
        return sum(process.cpu_s for process in self._seen.values())

    def look(self) -> None:
        """Look at every process of the machine: some milliseconds."""
        stats = {
            pid: stat
            for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
            if (stat := _stat(pid))
        }
        known = {pid for pid, _ in self._seen} | {self._top}
        growing = True
        while growing:  # a process started by one that ended meanwhile stays known by its number
            below = {pid for pid, stat in stats.items() if stat.parent in known} - known
            known |= below
            growing = bool(below)
        for pid in known & stats.keys():
            stat = stats[pid]
            self._seen[pid, stat.started] = Process(_name(pid), stat.cpu_s, _loads_pytorch(pid))


@dataclass(frozen=True)
class _Stat:
    parent: int
    cpu_s: float
    started: int
    """Clock ticks since the machine started: tells a number that was given again."""


def _stat(pid: int) -> _Stat | None:
    """Of proc(5), /proc/PID/stat; None if the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return _Stat(int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS_PER_S, int(fields[19]))


def _name(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "?"
    title = words[0]
    if Path(title).name.startswith("python") and len(words) > 1:
        title = " ".join(words[1:3])
    return title.partition("\n")[0][-60:]


def _loads_pytorch(pid: int) -> bool:
    try:
        return "libtorch_cpu" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
