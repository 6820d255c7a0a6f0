"""Bytes of rows, by URI and ETag: of objects, and of members of shards, side by side ones at once.

A request for each member would take as long as for an object of its own: members that lie near
each other come in ranges of megabytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pipeline.schema import ErrorCode
from pipeline.storage import REPLACED, StorageError, read_object, read_range

from .file import DamagedShardError
from .frames import frame_file
from .places import Member, member_of, shards_of
from .table_reader import TableReader

SPAN_BYTES = 1 << 22  # of a range of several members
GAP_BYTES = 1 << 16  # between two members, that are read and thrown away
TABLE_ROWS = 64  # of a Parquet file at a time, and no more than SPAN_BYTES

Row = dict[str, Any]
Part = bytes | StorageError


def read_version(uri: str, etag: str) -> bytes:
    """The bytes of a row's image: an object's, or those of a member of a shard.

    Of a frame of a DICOM file, those of a file with that frame alone, and nothing of the patient.

    Args:
        uri: the row's.
        etag: the row's.

    Raises:
        StorageError: it can't be read; with the code ``changed`` if it is of another version, and
            with ``truncated`` if it lies in a part of a Parquet file that is damaged.
    """
    member = member_of(uri, etag)
    if member is None:
        data, found = read_object(uri)
        if found != etag:
            raise StorageError(ErrorCode.CHANGED, REPLACED)
        return data
    (part,) = _read_members([member], None)
    if isinstance(part, StorageError):
        raise part
    return part


@dataclass
class Fetch:
    """Rows that are fetched together, in one request where they are of one shard."""

    rows: list[Row]
    bytes: int
    """That it holds when it is done, as far as the listing tells."""
    members: list[Member] = field(default_factory=list)
    """One for each row; empty: one row, an object of its own."""
    max_bytes: int | None = None

    @property
    def in_order(self) -> bool:
        """Whether it is best read behind the one before it, by the same thread."""
        return bool(self.members) and self.members[0].in_table

    def read(self) -> tuple[list[Part], float]:
        """The bytes of each row or why there are none, and the seconds that each took."""
        started = time.monotonic()
        parts: list[Part]
        try:
            if self.members:
                parts = list(_read_members(self.members, self.max_bytes))
            else:
                (row,) = self.rows
                parts = [read_version(row["uri"], row["etag"])]
        except StorageError as error:
            parts = [error]
        except MemoryError:
            code, message = ErrorCode.OUT_OF_MEMORY, "no memory to fetch or resize the image"
            parts = [StorageError(code, message)] * len(self.rows)
        return parts, (time.monotonic() - started) / len(self.rows)


def planned(rows: Sequence[Row], max_bytes: int | None = None) -> Iterator[Fetch]:
    """Rows of a manifest, in order, as what is fetched together.

    Args:
        rows: with ``uri``, ``etag``, ``size`` and ``error``; those with an error are not fetched,
            and come alone, with no bytes.
        max_bytes: rows of Parquet files with more bytes, which no listing tells of, are errors.
    """
    run: Fetch | None = None
    for row in rows:
        member = None if row["error"] else member_of(row["uri"], row["etag"])
        if member is not None and run is not None and _continues(run, row, member):
            run.rows.append(row)
            run.members.append(member)
            if member.in_table:
                run.bytes += row["size"] or 0
            else:
                run.bytes = member.start + member.length - run.members[0].start
            continue
        if run is not None:
            yield run
        run = None
        if member is None:
            yield Fetch([row], 0 if row["error"] else row["size"] or 0)
        else:
            run = Fetch([row], row["size"] or 0, [member], max_bytes)
    if run is not None:
        yield run


def _continues(run: Fetch, row: Row, member: Member) -> bool:
    """Whether a member lies behind the last one, near enough for one request."""
    first, last = run.members[0], run.members[-1]
    if (member.etag, member.in_table) != (last.etag, last.in_table):
        return False
    if bool(member.frame) != bool(last.frame):
        return False
    if _shard(row["uri"]) != _shard(last.uri):
        return False
    if member.in_table:
        follows = member.start == last.start and member.length > last.length
        return follows and len(run.rows) < TABLE_ROWS and run.bytes < SPAN_BYTES
    gap = member.start - last.start - last.length
    return 0 <= gap <= GAP_BYTES and member.start + member.length - first.start <= SPAN_BYTES


def _shard(uri: str) -> str:
    return next(iter(shards_of(uri)), "")


def _read_members(members: Sequence[Member], max_bytes: int | None) -> Iterator[Part]:
    """Of members of one shard, all of them: each one's bytes or why there are none."""
    problem: StorageError | None = None
    for shard in shards_of(members[0].uri):
        # Keys may hold ".tar#" themselves: of what the URI may mean, the version tells.
        try:
            yield from _of_shard(shard, members, max_bytes)
            return
        except StorageError as error:
            problem = problem or error
    missing = StorageError(ErrorCode.NOT_FOUND, f"{members[0].uri} names no shard")
    yield from [problem or missing] * len(members)


def _of_shard(shard: str, members: Sequence[Member], max_bytes: int | None) -> list[Part]:
    first, last = members[0], members[-1]
    if first.in_table:
        rows = [member.length for member in members]
        parts = list(_tables().read(shard, first.etag, first.start, rows, max_bytes))
        if all(isinstance(part, StorageError) for part in parts):
            raise parts[0]  # type: ignore[misc]  # the shard may be another one
        return [_told(part) for part in parts]
    length = last.start + last.length - first.start
    data = read_range(shard, first.etag, first.start, length) if length else b""
    begin = first.start
    held = [data[each.start - begin : each.start - begin + each.length] for each in members]
    if first.frame:
        framed = zip(members, held, strict=True)
        held = [frame_file(shard, each.etag, each.frame, part) for each, part in framed]
    return [*held]


def _told(part: bytes | StorageError | DamagedShardError) -> Part:
    return StorageError(part.code, str(part)) if isinstance(part, DamagedShardError) else part


@lru_cache(maxsize=1)
def _tables() -> TableReader:
    """This process's: what one block of rows has read up to, the next goes on from."""
    return TableReader()
