"""What a shard holds, as columns: a Python object for each member would take gigabytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.schema import ErrorCode

from .places import name_of

MEMBERS_SCHEMA = pa.schema(
    [
        # Null: the shard itself, damaged, or without an error no shard at all.
        pa.field("name", pa.string()),
        pa.field("place", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("category", pa.string()),
        # In the shard; null: what is before the last / of the name.
        pa.field("folder", pa.string()),
        pa.field("error", pa.string()),
        pa.field("error_message", pa.string()),
    ]
)
CHUNK_ROWS = 10_000

# WebDataset: what belongs together has one name up to the first dot of its last part, and lies side
# by side (github.com/webdataset/webdataset, "The WebDataset Format").
_KEY = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)", re.DOTALL)
SIDE_FILES = ("cls", "txt", "json")
MAX_SIDE_BYTES = 1 << 16
_JSON_KEYS = ("category", "class", "class_name", "label")
MAX_CLASS_NAME = 100  # characters; what is longer, or has several lines, is a caption


@dataclass(slots=True)
class Found:
    """A file of a shard."""

    name: str
    start: int
    size: int
    error: ErrorCode | None = None
    message: str | None = None
    folder: str | None = None
    """In the shard, if it is not what is before the last / of the name."""


class Members:
    """Gathers the files of a shard in the order in which they lie there."""

    def __init__(self) -> None:
        self._done: list[pa.Table] = []
        self._rows: list[tuple[Any, ...]] = []
        self.count = 0

    def add(self, found: Found, category: str | None = None) -> None:
        """A file of its own."""
        place = f"{found.start}+{found.size}"
        error = found.error and found.error.value
        folder = found.folder and name_of(found.folder)
        name = name_of(found.name)
        self.add_row(name, place, found.size, category, folder, error, found.message)

    def add_row(self, *row: Any) -> None:
        """A row of ``MEMBERS_SCHEMA``."""
        self._rows.append(row)
        self.count += row[0] is not None
        if len(self._rows) == CHUNK_ROWS:
            self._pack()

    def add_table(self, rows: pa.Table) -> None:
        """Rows of ``MEMBERS_SCHEMA``."""
        self._pack()
        self._done.append(rows)
        self.count += len(rows)

    def add_itself(self) -> None:
        """The object is none of what its suffix says, and counts as any other."""
        self.add_row(*[None] * len(MEMBERS_SCHEMA))

    def add_damage(self, message: str, code: ErrorCode = ErrorCode.TRUNCATED) -> None:
        """The shard's own row: what could not be read of it, and why."""
        self.add_row(None, None, None, None, None, code.value, message)

    def table(self) -> pa.Table:
        """All of them (``MEMBERS_SCHEMA``)."""
        self._pack()
        return pa.concat_tables([MEMBERS_SCHEMA.empty_table(), *self._done])

    def _pack(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [
                pa.array(column, field.type)
                for column, field in zip(columns, MEMBERS_SCHEMA, strict=True)
            ]
            self._done.append(pa.table(arrays, schema=MEMBERS_SCHEMA))
            self._rows = []


class Samples:
    """Files that lie side by side under one key: images, and what tells their class.

    A ``.cls``, ``.txt`` or ``.json`` beside an image is no image and gets no row; one that lies
    alone gets a row as any file does.
    """

    def __init__(self, members: Members) -> None:
        self._members = members
        self._key: str | None = None
        self._images: list[Found] = []
        self._sides: list[tuple[Found, str | None]] = []

    def add(self, found: Found, data: bytes | None = None) -> None:
        """A file; of a side file its bytes too, which may tell the class."""
        named = _KEY.fullmatch(found.name)
        key = named[1] if named else None
        if key is None or key != self._key:
            self.end()
        self._key = key
        if named and data is not None:
            self._sides.append((found, class_name(named[2].lower(), data)))
        else:
            self._images.append(found)

    def end(self) -> None:
        """Nothing more belongs to the last key."""
        if self._images:
            category = next((name for _, name in sorted_sides(self._sides) if name), None)
            for image in self._images:
                self._members.add(image, category)
        else:
            for side, _ in self._sides:
                self._members.add(side)
        self._images, self._sides, self._key = [], [], None


def is_side_file(name: str, size: int) -> bool:
    """Whether a file may tell the class of an image beside it."""
    named = name.rpartition("/")[2].partition(".")[2].lower() in SIDE_FILES
    return named and size <= MAX_SIDE_BYTES


def sorted_sides(sides: Iterable[tuple[Found, str | None]]) -> list[tuple[Found, str | None]]:
    """``.cls`` before ``.txt`` before ``.json``, however they lie."""
    return sorted(sides, key=lambda each: SIDE_FILES.index(each[0].name.rpartition(".")[2].lower()))


def class_name(kind: str, data: bytes) -> str | None:
    """The class that a side file names; None if what it holds is no name.

    Args:
        kind: of ``SIDE_FILES``.
    """
    with suppress(ValueError, RecursionError):
        text = data.decode("utf-8-sig")
        if kind == "json":
            content = json.loads(text)
            given = content if isinstance(content, dict) else {}
            text = next((v for k in _JSON_KEYS if isinstance(v := given.get(k), str)), "")
        text = text.strip()
        if text and len(text) <= MAX_CLASS_NAME and text.isprintable():
            return text
    return None
