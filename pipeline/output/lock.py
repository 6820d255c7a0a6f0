"""One writer for an output: a lock that lies in the output and is kept alive by heartbeats.

``<output>/lock.json`` is only ever created or replaced, and only under the condition that nobody
else did so meanwhile (``storage.create_object``, ``storage.replace_object``). Its owner writes it
anew every 15 seconds. Who wants it watches: an owner whose heartbeats stay away for a minute, by
the watcher's own clock, is gone, and the lock is taken over. No two machines' clocks are compared.
An owner that was taken over, or that can't tell, stops before its next commit (``check``). Released
locks stay as a file that says so, which needs no right to delete.

All of this rests on the store's word that a write under a condition that does not hold is refused.
Some servers ignore conditions, so the word is tried whenever the lock is taken. Where it is not
kept, the lock is the weaker kind: the last of several that start together has it, and an owner
reads before every write and every commit whether it still is the one.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import replace
from types import TracebackType

from pipeline.errors import CannotRunError, ExpectedError
from pipeline.schema import ErrorCode
from pipeline.storage import (
    ConditionsRefusedError,
    StorageError,
    absolute,
    create_object,
    replace_object,
)

from .lock_owner import Owner, read_owner, to_json

_log = logging.getLogger(__name__)

LOCK_NAME = "lock.json"
HEARTBEAT_S = 15.0
STALE_S = 60.0  # four heartbeats: one that is late or fails is no reason to lose a night's work
TRY_SHARE = 0.1  # of a heartbeat: between tries to take a lock
# Of the stale time: where conditions are ignored, so long after one's own write the lock is read,
# because others that start at the same time may still be writing theirs.
SETTLE_SHARE = 0.1
ANOTHER_ETAG = f'"{"0" * 32}"'  # no object's: an MD5 of zeros
# Where a write under a condition is one step. Other file systems compare first and write then.
ATOMIC = ("s3://", "gs://", "abfs://", "file://")
WITHOUT_LOCK = (
    "no lock is taken: if another job writes to this output at the same time, images are scored "
    "and stored twice, and a compaction or vacuum may delete what the other one still writes"
)


class LockedError(CannotRunError):
    """Somebody else writes to the output; the message names who."""


class CannotLockError(LockedError):
    """The store can't hold a lock; the message names the remedy."""


class LockLostError(ExpectedError):
    """The lock is somebody else's by now, or may be: nothing more may be written."""


class OutputLock:
    """Held inside a ``with`` block, kept alive by a thread of its own."""

    def __init__(
        self,
        output: str,
        *,
        run_id: str,
        wait_s: float = 0.0,
        heartbeat_s: float = HEARTBEAT_S,
        stale_s: float = STALE_S,
        needed: bool = True,
    ) -> None:
        """Name the output; nothing is written yet.

        Args:
            run_id: tells people which run holds the lock.
            wait_s: how long to wait for an owner that is alive.
            heartbeat_s: seconds between heartbeats; the same for all who use an output.
            stale_s: seconds without one after which an owner is taken to be gone.
            needed: False takes no lock and says what that gives up.
        """
        self.uri = f"{absolute(output)}/{LOCK_NAME}"
        self._owner = Owner(run_id=run_id)
        self._wait_s, self._needed = wait_s, needed
        self._heartbeat_s, self._stale_s = heartbeat_s, stale_s
        self._etag, self._renewed = "", 0.0
        self._lost, self._conditional, self._warned = "", True, False
        self._mutex, self._stopped = threading.Lock(), threading.Event()

    def __enter__(self) -> OutputLock:
        """Take the lock.

        Raises:
            LockedError: its owner is alive, or the store can't hold a lock.
            StorageError: the lock can't be read or written.
        """
        if not self._needed:
            _log.warning(WITHOUT_LOCK)
            return self
        try:
            self._acquire()
        except ConditionsRefusedError as error:
            raise CannotLockError(
                f"the output can't be locked: {error}; if nothing helps, see to it that one job at "
                "a time writes to it, and give --no-lock"
            ) from error
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
        if not self._needed:
            return
        self._stopped.set()
        self._thread.join(self._heartbeat_s)  # it may hang in a request; it can't outlive us
        if not self._lost:
            try:
                self._write(replace(self._owner, released=True))
            except StorageError as failure:
                _log.warning(
                    f"the lock can't be given back: {failure}; the next run takes it over once "
                    "this process is gone, on another machine "
                    f"{self._stale_s:.0f} s after it began to wait"
                )

    def check(self) -> None:
        """Call right before anything that others see.

        Raises:
            LockLostError: somebody took over, or heartbeats fail for so long that somebody may.
        """
        if not self._needed:
            return
        # Half the time after which others act: the rest is for the write that follows.
        fresh = time.monotonic() - self._renewed <= self._stale_s / 2
        if not self._lost and not (fresh and self._conditional):
            with self._mutex:
                try:
                    self._look() if fresh else self._renew()
                except StorageError as error:
                    raise LockLostError(f"the lock can't be kept: {error}") from error
        if self._lost:
            raise LockLostError(
                f"{self.uri} was taken over by {self._lost}; what is not written yet is left to it"
            )

    def _acquire(self) -> None:
        watch = _Watch()
        while True:
            self._renewed = time.monotonic()
            etag = self._try(watch)
            if etag is not None:
                self._etag = etag
                if self._proven() and (self._conditional or self._settled()):
                    return
            elif watch.refused_s() > self._wait_s + 2 * self._stale_s:
                raise CannotLockError(
                    f"{self.uri} can't be taken: for {watch.refused_s():.0f} s every write was "
                    "refused, though no living owner shows; see to it that one job at a time "
                    "writes to the output, and give --no-lock"
                )
            time.sleep(self._heartbeat_s * TRY_SHARE)

    def _try(self, watch: _Watch) -> str | None:
        """One look at the lock, and one try to take it if it is free; the ETag if that worked."""
        found = read_owner(self.uri)
        if found is None:
            return watch.written(create_object(self.uri, to_json(self._owner)))
        owner, etag = found
        if owner == self._owner:  # of a request whose answer got lost
            return etag
        lives_here = owner.is_alive()
        watch.see(etag)
        stale = watch.unchanged_s() >= self._stale_s
        if not (owner.released or lives_here is False or stale):
            if (watch.alive or lives_here) and watch.waited_s() >= self._wait_s:
                raise LockedError(
                    f"{owner} writes to this output; try again when it is done, or give "
                    "--lock-wait-s to wait for it"
                )
            watch.tell(self._waiting(owner, bool(lives_here)))
            return None
        if not owner.released:
            watch.tell(f"taking the lock over from {owner}, which is gone")
        return watch.written(replace_object(self.uri, to_json(self._owner), etag))

    def _proven(self) -> bool:
        """Find out whether the store keeps conditions; False if the lock is not ours any more."""
        mine = to_json(self._owner)
        renewed = replace_object(self.uri, mine, self._etag)
        if renewed is None:
            return False
        self._etag = renewed
        created = create_object(self.uri, mine)
        replaced = replace_object(self.uri, mine, ANOTHER_ETAG)
        self._conditional = not (created or replaced) and self.uri.startswith(ATOMIC)
        ignored = [name for name, etag in (("creating", created), ("replacing", replaced)) if etag]
        self._etag = replaced or created or self._etag
        if ignored and not self._warned:
            self._warned = True
            _log.warning(
                f"the store ignores conditions when {' and '.join(ignored)} an object, so "
                "the lock may fail if two jobs start within seconds of each other; see to it that "
                "one at a time writes to this output"
            )
        return True

    def _settled(self) -> bool:
        """Where conditions are ignored: whether the lock is still ours a while after writing it."""
        time.sleep(self._stale_s * SETTLE_SHARE)
        found = read_owner(self.uri)
        if found is None or found[0].token != self._owner.token:
            return False
        self._etag = found[1]
        return True

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
        self._write(replace(self._owner, heartbeats=self._owner.heartbeats + 1))
        if not self._lost:
            self._renewed = began

    def _write(self, owner: Owner) -> None:
        """Write the lock anew; ``_lost`` says whether it is somebody else's by now.

        Raises:
            StorageError: it could not be written, and is still ours.
        """
        for attempt in range(2):  # the second is for an ETag that we did not know of
            if attempt:
                time.sleep(self._heartbeat_s * TRY_SHARE)
            if not self._conditional:
                self._look()
                if self._lost:
                    return
            etag = replace_object(self.uri, to_json(owner), self._etag)
            # Equal to what was sent: a request that was carried out and whose answer got lost.
            if etag is None and self._look() == owner:
                etag = self._etag
            if etag is not None:
                self._owner, self._etag = owner, etag
            if etag is not None or self._lost:
                return
        raise StorageError(ErrorCode.FETCH_FAILED, f"{self.uri} stays as it was")

    def _look(self) -> Owner | None:
        """Who has the lock by now, and its ETag if we do."""
        found = read_owner(self.uri)
        if found is None or found[0].token != self._owner.token:
            self._lost = str(found[0]) if found else "nobody: it was deleted"
            return None
        self._etag = found[1]
        return found[0]


class _Watch:
    """What a waiting process saw of the owner, by its own clock."""

    def __init__(self) -> None:
        self.began = self._seen_at = time.monotonic()
        self.alive = False
        """Whether the lock changed while it was watched."""
        self._seen = ""
        self._refused_at: float | None = None
        self._told: set[str] = set()

    def see(self, etag: str) -> None:
        """Note the lock's version."""
        if etag != self._seen:
            self.alive = bool(self._seen)
            self._seen, self._seen_at = etag, time.monotonic()

    def unchanged_s(self) -> float:
        """Seconds since the lock last changed."""
        return time.monotonic() - self._seen_at

    def waited_s(self) -> float:
        """Seconds since the first look."""
        return time.monotonic() - self.began

    def written(self, etag: str | None) -> str | None:
        """The same ETag of a write; None, a refusal, is noted."""
        if etag is None and self._refused_at is None:
            self._refused_at = time.monotonic()
        return etag

    def refused_s(self) -> float:
        """Seconds since the first refusal; waiting for a lock to go stale is none."""
        return 0.0 if self._refused_at is None else time.monotonic() - self._refused_at

    def tell(self, line: str) -> None:
        """Say a line once."""
        if line not in self._told:
            self._told.add(line)
            _log.info(line)
