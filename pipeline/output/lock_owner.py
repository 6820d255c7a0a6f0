"""Who holds an output's lock: what stands in lock.json, and whether that process lives."""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, read_object, stat


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who holds a lock, as it stands in the file."""

    run_id: str
    """Which run; "compact" or "vacuum" for maintenance."""
    host: str = field(default_factory=socket.gethostname)
    """Name of its machine."""
    pid: int = field(default_factory=os.getpid)
    """Number of its process there."""
    since: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """When it was started (UTC)."""
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    """Random: tells two owners of one lock apart."""
    system: str = field(default_factory=lambda: _system())
    """Boot and process namespace, within which process numbers can be compared; "" if unknown."""
    started: str = field(default_factory=lambda: _start_time(os.getpid()) or "")
    """When the process started, because its number may be used again; "" if unknown."""
    heartbeats: int = 0
    """How often it was renewed."""
    released: bool = False
    """Whether the lock is free."""

    def __str__(self) -> str:
        """For messages; what stands in the file is not to be trusted with a terminal."""
        text = f"run {self.run_id} on {self.host} (pid {self.pid}, since {self.since})"
        return "".join(c if c.isprintable() else "?" for c in text)[:300]

    def is_alive(self) -> bool | None:
        """Whether its process is there; None if that can't be seen from here."""
        if not self.system or (self.system, self.host) != (_system(), socket.gethostname()):
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return None  # another user's
        started = _start_time(self.pid)
        return started is not None and started == self.started


def read_owner(uri: str) -> tuple[Owner, str] | None:
    """Owner and ETag of one and the same version; None if there is no lock.

    Raises:
        StorageError: it can't be read.
    """
    try:
        while True:
            # But for S3, the ETag is looked up after the data: it may be a newer version's.
            before = None if uri.startswith("s3://") else stat(uri).etag
            data, etag = read_object(uri)
            if before in (None, etag):
                break
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        return None
    try:
        known = {each.name for each in fields(Owner)}
        return Owner(**{k: v for k, v in json.loads(data).items() if k in known}), etag
    except (ValueError, TypeError, AttributeError):
        # Damaged, by whomever: it goes stale like any other.
        return Owner(run_id="?", host="?", pid=0, since="?", token="", system=""), etag


def to_json(owner: Owner) -> bytes:
    """The file of a lock."""
    return json.dumps(asdict(owner), indent=2).encode()


def _system() -> str:
    """Empty where there is no /proc, as on macOS."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """In ticks since boot; None for a process that is not there, or ended and not waited for."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if status[0] in "ZX" else status[19]
