"""Which rows end the processes that read them: a log outside of those, which outlives them.

Ray starts a task anew whose process died, and its rows would kill it again, for ever. So a block's
second reader goes row by row and notes each one before it touches it; a row that was being read
when several readers died is given up by name, whatever killed them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import ray

Row = dict[str, Any]

# Of readers, during one row. A machine that goes away just then is no reason; twice is no chance.
MAX_DEATHS = 2
# Of readers that noted no row: an error of the whole machine, which no row can be blamed for.
MAX_UNEXPLAINED = 5


class UnreadableBlockError(Exception):
    """Readers die before they come to any row."""


class ReadingLog:
    """The actor: what is being read, and what was when a reader died."""

    def __init__(self) -> None:
        self._starts: Counter[str] = Counter()
        self._reading: dict[str, str] = {}
        self._deaths: Counter[str] = Counter()
        self._unexplained: Counter[str] = Counter()

    def start(self, block: str) -> set[str] | None:
        """A reader begins a block.

        Returns:
            None for its first one; for others, which have to note each row, ids to give up.

        Raises:
            UnreadableBlockError: ``MAX_UNEXPLAINED`` readers died without noting a row.
        """
        self._starts[block] += 1
        if self._starts[block] == 1:
            return None
        if row := self._reading.pop(block, None):
            self._deaths[row] += 1
        elif self._starts[block] > 2:  # the first one notes nothing
            self._unexplained[block] += 1
            if self._unexplained[block] >= MAX_UNEXPLAINED:
                raise UnreadableBlockError(
                    f"{MAX_UNEXPLAINED} processes that were to read the same images died before "
                    "the first one; look at the memory of the machines, and at Ray's logs"
                )
        return {row for row, deaths in self._deaths.items() if deaths >= MAX_DEATHS}

    def note(self, block: str, row: str | None) -> None:
        """A later reader of the block is about to read a row, or done with it (None)."""
        if row is None:
            self._reading.pop(block, None)
        else:
            self._reading[block] = row

    def finish(self, block: str) -> None:
        """All rows of the block are read."""
        self._starts.pop(block, None)
        self._reading.pop(block, None)
        self._unexplained.pop(block, None)


def start_reading_log() -> Any:
    """The handle of a new actor, which ends with its last handle."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(ReadingLog).remote()


def read_logged(
    rows: list[Row],
    key: Callable[[Row], str],
    log: Any,
    *,
    read: Callable[[list[Row]], Iterator[Row]],
    give_up: Callable[[Row, str], Row],
) -> Iterator[Row]:
    """Read rows in order; one by one, and each noted, if a reader of them died before.

    Args:
        rows: a block.
        key: what tells a row from all others.
        log: handle of a ``ReadingLog``, or None to do without.
        read: gives the rows as they are read.
        give_up: makes a row of one that killed its readers, and of the reason.
    """
    block = key(rows[0]) if rows and log is not None else ""
    given_up = ray.get(log.start.remote(block)) if block else None
    if given_up is None:
        yield from read(rows)
    else:
        for row in rows:
            if key(row) in given_up:
                yield give_up(row, f"{MAX_DEATHS} processes died while they read it")
                continue
            ray.get(log.note.remote(block, key(row)))
            last: Row | None = None
            for each in read([row]):  # many tiles are never held at once
                if last is not None:
                    yield last
                last = each
            ray.get(log.note.remote(block, None))
            if last is not None:
                yield last
    if block:
        log.finish.remote(block)
