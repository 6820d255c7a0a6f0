"""How members are named: ``<shard>#<name>``, and ``<etag of the shard>#<place>`` as their version.

The place is ``<offset>+<length>`` in bytes, ``<row group>.<row>`` of a Parquet file, or
``frame<number>@<offset>+<length>`` of a DICOM file, whose frames are called by their numbers. No
store's own ETag ends like that, so an object whose key happens to hold ``.tar#`` is never taken for
one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SHARD_PATTERN = r"(?i)\.(?:tar|zip|parquet)$"
"""Regular expression of URIs that are opened, for Arrow as well."""

PLACE_PATTERN = r"#(?:frame(\d{1,9})@)?(\d{1,19})([+.])(\d{1,19})$"
"""Regular expression of how the ETags of members end, for Arrow as well."""

_PLACE = re.compile(f"(.*){PLACE_PATTERN}", re.DOTALL)
_FRAME = re.compile(r"(.+)#[1-9]\d{0,8}", re.DOTALL)
_MARK = re.compile(r"\.(?:tar|zip|parquet)(?=#)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Member:
    """Where a row's image lies in a shard."""

    uri: str
    etag: str
    """Of the shard."""
    start: int
    """Offset in bytes; of a Parquet file, the row group."""
    length: int
    """In bytes; of a Parquet file, the row in its group."""
    in_table: bool
    """Whether the shard is a Parquet file."""
    frame: int = 0
    """Number of a DICOM file's frame, from 1; 0 for members that are files."""


def member_of(uri: str, etag: str | None) -> Member | None:
    """What a row's URI and ETag say of its place in a shard; None for an object of its own."""
    # Of nearly all rows the last character tells.
    if not etag or not etag[-1].isdigit() or not (found := _PLACE.fullmatch(etag)):
        return None
    shard, frame, start, kind, length = found.groups()
    return Member(uri, shard, int(start), int(length), kind == ".", int(frame or 0))


def frame_place(frame: int, start: int, length: int) -> str:
    """The place of a frame of a DICOM file, the first of which is 1."""
    return f"frame{frame}@{start}+{length}"


def shards_of(uri: str) -> list[str]:
    """What a member's URI may name as its shard: one, unless keys hold ``.tar#`` themselves.

    What ends with ``#`` and a number may be a frame, of a file of any name.
    """
    found = [uri[: found.end()] for found in _MARK.finditer(uri)]
    if (frame := _FRAME.fullmatch(uri)) and frame[1] not in found:
        found.append(frame[1])
    return found


def name_of(text: str) -> str:
    """A name as it can stand in a table: bytes that are no UTF-8, and zeros, are escaped."""
    return (
        text.encode("utf-8", "surrogateescape")
        .decode("utf-8", "backslashreplace")
        .replace("\0", "\\x00")
    )
