"""Settings that every command, and every command on a Ray cluster, has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from pipeline.logs import LogFormat


@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """How a command tells of itself."""

    GROUP: ClassVar = "this run"

    log_format: LogFormat = "text"
    """json: progress and errors as lines of JSON on standard error; tables stay as they are."""

    def remarks(self) -> list[str]:
        """What may not be meant."""
        return []


def is_local(address: str | None) -> bool:
    """Whether this address means a Ray of this machine."""
    return address == "local" or (address is None and not os.environ.get("RAY_ADDRESS"))


@dataclass(frozen=True, kw_only=True)
class JobConfig(CommandConfig):
    """Where a job runs."""

    GROUP: ClassVar = "this run"

    address: str | None = None
    """Ray cluster to use. Default: the one this job was submitted to ($RAY_ADDRESS), else the one
    that runs on this machine, else a new one; "local" = always a new one."""
