"""One writer for an output: a lock that lies in the output and is kept alive by heartbeats.

``<output>/lock.json`` is only ever created or replaced, and only under the condition that nobody
else did so meanwhile (``storage.create_object``, ``storage.replace_object``). Its owner writes it
anew every 15 seconds. Who wants it watches: an owner whose heartbeats stay away for a minute, by
the watcher's own clock, is gone, and the lock is taken over. No two machines' clocks are compared.
An owner that was taken over, or that can't tell, stops before its next commit (``check``). Released
locks stay as a file that says so, which needs no right to delete.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from .schema import ErrorCode
from .storage import StorageError, absolute, create_object, read_object, replace_object, stat

LOCK_NAME = "lock.json"
HEARTBEAT_S = 15.0
STALE_S = 60.0  # four heartbeats: one that is late or fails is no reason to lose a night's work

Say = Callable[[str], None]


class LockedError(Exception):
    """Somebody else writes to the output; the message names who."""


class LockLostError(Exception):
    """The lock is somebody else's by now, or may be: nothing more may be written."""


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


class OutputLock:
    """Held inside a ``with`` block, kept alive by a thread of its own."""

    def __init__(
        self,
        output: str,
        *,
        run_id: str,
        wait_s: float = 0.0,
        say: Say = lambda line: None,
        heartbeat_s: float = HEARTBEAT_S,
        stale_s: float = STALE_S,
    ) -> None:
        """Name the output; nothing is written yet.

        Args:
            run_id: tells people which run holds the lock.
            wait_s: how long to wait for an owner that is alive.
            say: receives a line when there is something to wait for.
            heartbeat_s: seconds between heartbeats; the same for all who use an output.
            stale_s: seconds without one after which an owner is taken to be gone.
        """
        self.uri = f"{absolute(output)}/{LOCK_NAME}"
        self._owner = Owner(run_id=run_id)
        self._wait_s, self._say = wait_s, say
        self._heartbeat_s, self._stale_s = heartbeat_s, stale_s
        self._etag, self._renewed = "", 0.0
        self._lost = ""
        self._mutex, self._stopped = threading.Lock(), threading.Event()

    def __enter__(self) -> OutputLock:
        """Take the lock.

        Raises:
            LockedError: its owner is alive.
            StorageError: the lock can't be read or written.
        """
        self._acquire()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the lock back, if it is still ours."""
        self._stopped.set()
        self._thread.join(self._heartbeat_s)  # it may hang in a request; it can't outlive us
        if not self._lost:
            self._owner = replace(self._owner, released=True)
            with suppress(StorageError):  # then it goes stale
                replace_object(self.uri, _to_json(self._owner), self._etag)

    def check(self) -> None:
        """Call right before anything that others see.

        Raises:
            LockLostError: somebody took over, or heartbeats fail for so long that somebody may.
        """
        # Half the time after which others act: the rest is for the write that follows.
        if not self._lost and time.monotonic() - self._renewed > self._stale_s / 2:
            with self._mutex:
                try:
                    self._renew()
                except StorageError as error:
                    raise LockLostError(f"the lock can't be kept: {error}") from error
        if self._lost:
            raise LockLostError(
                f"{self.uri} was taken over by {self._lost}; what is not written yet is left to it"
            )

    def _acquire(self) -> None:
        began = time.monotonic()
        seen, seen_at, told = "", began, False
        alive = False
        while True:
            self._renewed = time.monotonic()
            found = _read(self.uri)
            if found is None:
                etag = create_object(self.uri, _to_json(self._owner))
            elif found[0].token == self._owner.token:  # of a request whose answer got lost
                etag = found[1]
            else:
                owner, now = found[0], time.monotonic()
                if found[1] != seen:
                    alive = bool(seen)
                    seen, seen_at = found[1], now
                lives_here = owner.is_alive()
                stale = now - seen_at >= self._stale_s
                if not (owner.released or lives_here is False or stale):
                    if (alive or lives_here) and now - began >= self._wait_s:
                        raise LockedError(
                            f"{owner} writes to this output; try again when it is done, or give "
                            "--lock-wait-s to wait for it"
                        )
                    if not told:
                        self._say(self._waiting(owner, bool(lives_here)))
                        told = True
                    time.sleep(self._heartbeat_s / 10)
                    continue
                if not owner.released:
                    self._say(f"taking the lock over from {owner}, which is gone")
                etag = replace_object(self.uri, _to_json(self._owner), found[1])
            if etag is not None:
                self._etag = etag
                return

    def _waiting(self, owner: Owner, lives_here: bool) -> str:
        if lives_here:
            return f"waiting up to {self._wait_s:.0f} s for {owner}"
        return (
            f"the output is locked by {owner}; waiting for a sign of life, or taking over after "
            f"{self._stale_s:.0f} s without one"
        )

    def _beat(self) -> None:
        while not self._lost and not self._stopped.wait(self._heartbeat_s):
            with self._mutex, suppress(StorageError):  # the next one may work
                self._renew()

    def _renew(self) -> None:
        began = time.monotonic()  # others can't have seen the heartbeat before
        self._owner = replace(self._owner, heartbeats=self._owner.heartbeats + 1)
        etag = replace_object(self.uri, _to_json(self._owner), self._etag)
        if etag is None:
            found = _read(self.uri)
            if found is None or found[0].token != self._owner.token:
                self._lost = str(found[0]) if found else "nobody: it was deleted"
                return
            etag = found[1]  # of a request whose answer got lost
        self._etag, self._renewed = etag, began


def _read(uri: str) -> tuple[Owner, str] | None:
    """Owner and ETag of one and the same version; None if there is no lock."""
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


def _to_json(owner: Owner) -> bytes:
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
