"""One frame of a DICOM file as a file of its own: the tags that tell of pixels, and its pixels.

Headers are walked byte by byte, without an object for each element: they are read while a bucket is
listed, and may claim anything. Nothing of a patient is copied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from .dicom import DEFLATED, NATIVE, PARSED, SYNTAXES, is_dicom, transfer_syntax
from .extras import module

_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_LONG = (*(b"OB", b"OW", b"OF", b"OL", b"OD", b"OV", b"SQ"), *(b"UC", b"UR", b"UT", b"UN"))
_LONGEST = (*_LONG, b"SV", b"UV")
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ENDS = 0xFFFEE000, (0xFFFEE00D, 0xFFFEE0DD)
_FRAMES, _PER_FRAME, _PIXELS = 0x00280008, 0x52009230, 0x7FE00010
_OFFSETS = 0x7FE00001  # ExtendedOffsetTable

# What counts of the sequences among the parsed tags (``voi``).
_TABLE: dict[str, Any] = {"LUTDescriptor": None, "LUTData": None}
_GROUPS: dict[str, Any] = {
    "PixelValueTransformationSequence": {"RescaleSlope": None, "RescaleIntercept": None},
    "FrameVOILUTSequence": {"WindowCenter": None, "WindowWidth": None, "VOILUTFunction": None},
}
_INSIDE = {
    "ModalityLUTSequence": _TABLE,
    "VOILUTSequence": _TABLE,
    "SharedFunctionalGroupsSequence": _GROUPS,
    "PerFrameFunctionalGroupsSequence": _GROUPS,
}
Wanted = dict[int, Any]
"""Tags that are copied; of a sequence with those of its items, else with None."""


class _Element(NamedTuple):
    tag: int
    kind: bytes
    """Two letters; none where the file has none."""
    start: int
    value: int
    """Where the value begins."""
    stop: int
    """Where the next element begins."""


@dataclass(frozen=True)
class _Coding:
    """How elements are written."""

    explicit: bool
    order: str
    """Of bytes, as ``struct`` has it."""

    def head(self, data: bytes, at: int) -> tuple[int, bytes, int, int]:
        """Tag, kind and length of an element, and where its value begins.

        Raises:
            struct.error: the data end before.
        """
        group, number = struct.unpack_from(f"{self.order}HH", data, at)
        tag, kind = group << 16 | number, data[at + 4 : at + 6]
        # Some writers forget kinds inside of sequences, and items never have one.
        if not self.explicit or group == 0xFFFE or not (kind.isalpha() and kind.isupper()):
            (length,) = struct.unpack_from(f"{self.order}I", data, at + 4)
            return tag, b"", length, at + 8
        if kind in _LONGEST:
            (length,) = struct.unpack_from(f"{self.order}I", data, at + 8)
            return tag, kind, length, at + 12
        (length,) = struct.unpack_from(f"{self.order}H", data, at + 6)
        return tag, kind, length, at + 8

    def elements(self, data: bytes, at: int, end: int) -> Iterator[_Element]:
        """Those of a data set, or the items of a sequence, up to ``end`` or a delimiter."""
        while at + 8 <= end:
            tag, kind, length, value = self.head(data, at)
            if tag in _ENDS:
                return
            stop = value + length if length != _UNDEFINED else self._behind(data, value)
            if stop > end:  # damage; what lies there is something else
                return
            yield _Element(tag, kind, at, value, stop)
            at = stop

    def _behind(self, data: bytes, at: int) -> int:
        """Where what has no length ends, whatever lies inside."""
        depth = 1
        while depth:
            tag, _, length, at = self.head(data, at)
            if tag in _ENDS:
                depth -= 1
            elif length == _UNDEFINED:
                depth += 1
            else:
                at += length
        return at

    def element(self, tag: int, kind: bytes, value: bytes, length: int | None = None) -> bytes:
        """The bytes of an element."""
        length = len(value) if length is None else length
        numbers = struct.pack(f"{self.order}HH", tag >> 16, tag & 0xFFFF)
        if not self.explicit or not kind:
            return numbers + struct.pack(f"{self.order}I", length) + value
        if kind in _LONGEST:
            return numbers + kind + struct.pack(f"{self.order}HI", 0, length) + value
        return numbers + kind + struct.pack(f"{self.order}H", length) + value

    def copied(self, data: bytes, at: int, end: int, wanted: Wanted) -> bytes:
        """A data set's elements of these tags."""
        found = []
        for each in self.elements(data, at, end):
            if each.tag not in wanted:
                continue
            if (inside := wanted[each.tag]) is None:
                found.append(data[each.start : each.stop])
            else:  # of a sequence the first item is what counts
                items = self.elements(data, each.value, each.stop)
                parts = [self.item(data, item, inside) for item in islice(items, 1)]
                found.append(self.element(each.tag, b"SQ", b"".join(parts)))
        return b"".join(found)

    def item(self, data: bytes, item: _Element, wanted: Wanted) -> bytes:
        """An item of a sequence, with the elements of these tags."""
        return self.element(_ITEM, b"", self.copied(data, item.value, item.stop, wanted))


@dataclass(frozen=True)
class Header:
    """What stands before the pixels of a file."""

    data: bytes
    """The file, at least up to its pixels."""
    syntax: str
    coding: _Coding
    elements: dict[int, _Element]
    pixels: _Element
    """Their element, whose value ``data`` need not hold."""

    @property
    def frames(self) -> int:
        """How many the file claims to have."""
        text = self._value(_FRAMES).strip(b" \0")
        return int(text) if text.isdigit() and len(text) < 13 else 1

    @property
    def compressed(self) -> bool:
        """Whether each frame is a stream of its own, in items of ``pixels``."""
        return self.syntax not in NATIVE

    @property
    def bits(self) -> int:
        """Of a frame that is not compressed; frames follow each other without a gap."""
        rows, columns, samples, allocated = map(
            self._number, (0x00280010, 0x00280011, 0x00280002, 0x00280100)
        )
        bits = rows * columns * samples * allocated
        half = (
            self._value(0x00280004).strip(b" \0") == b"YBR_FULL_422"
        )  # of two colours one is kept
        return bits // 3 * 2 if half else bits

    @property
    def offsets(self) -> bytes:
        """The extended table of where compressed frames begin; empty without one."""
        return self._value(_OFFSETS)

    def _value(self, tag: int) -> bytes:
        found = self.elements.get(tag)
        return b"" if found is None else self.data[found.value : found.stop]

    def _number(self, tag: int) -> int:
        (number,) = struct.unpack(f"{self.coding.order}H", self._value(tag)[:2])
        return int(number)


def read_header(data: bytes) -> Header | None:
    """The header of a file whose frames can be told apart, of its first bytes.

    Returns:
        None where the bytes are no DICOM, of a transfer syntax that is not read or is deflated, or
        end before the pixels.

    Raises:
        MissingExtraError: pydicom is not installed.
    """
    if not is_dicom(data):
        return None
    wanted = _wanted().keys() | {_OFFSETS}
    try:
        syntax, at = transfer_syntax(data)
        if syntax not in SYNTAXES or syntax == DEFLATED:
            return None
        coding = _Coding(syntax != _IMPLICIT, ">" if syntax == _BIG_ENDIAN else "<")
        elements: dict[int, _Element] = {}
        while True:
            tag, kind, length, value = coding.head(data, at)
            if tag >= _PIXELS:
                stop = value if length == _UNDEFINED else value + length
                pixels = _Element(tag, kind, at, value, stop)
                whole = tag == _PIXELS and (length == _UNDEFINED) == (syntax not in NATIVE)
                return Header(data, syntax, coding, elements, pixels) if whole else None
            each = next(coding.elements(data, at, len(data)))
            if tag in wanted:
                elements[tag] = each
            at = each.stop
    except Exception:  # damage: it leads anywhere
        return None


class FrameFiles:
    """Makes files of single frames of one file."""

    def __init__(self, header: Header, most: int) -> None:
        """Keep what they share, and what the first ``most`` frames have of their own."""
        coding, data, wanted = header.coding, header.data, _wanted()
        self._coding, self._bits = coding, 0 if header.compressed else header.bits
        self._kind = header.pixels.kind
        meta = _Coding(explicit=True, order="<")
        syntax = header.syntax.encode() + b"\0" * (len(header.syntax) % 2)
        told = meta.element(0x00020010, b"UI", syntax)
        length = meta.element(0x00020000, b"UL", struct.pack("<I", len(told)))
        one = coding.element(_FRAMES, b"IS", b"1 ")
        parts = {
            tag: coding.copied(data, each.start, each.stop, wanted)
            for tag, each in header.elements.items()
            if tag not in (_PER_FRAME, _OFFSETS)
        }
        shared = b"".join(part for _, part in sorted((parts | {_FRAMES: one}).items()))
        self._before = bytes(128) + b"DICM" + length + told + shared
        self._groups: list[bytes] = []
        if groups := header.elements.get(_PER_FRAME):
            items = coding.elements(data, groups.value, groups.stop)
            inside = wanted[_PER_FRAME]
            self._groups = [coding.item(data, item, inside) for item in islice(items, most)]

    def made(self, frame: int, pixels: bytes) -> bytes:
        """A file.

        Args:
            frame: its number, from 1.
            pixels: the bytes that hold it; of a compressed one, its items.
        """
        parts = [self._before]
        if frame <= len(self._groups):
            parts.append(self._coding.element(_PER_FRAME, b"SQ", self._groups[frame - 1]))
        if not self._bits:
            items = self._coding.element(_ITEM, b"", b"") + pixels
            items += self._coding.element(_ENDS[1], b"", b"")
            parts.append(self._coding.element(_PIXELS, b"OB", items, _UNDEFINED))
            return b"".join(parts)
        if shift := (frame - 1) * self._bits % 8:  # pixels of one bit begin anywhere in a byte
            bits = np.unpackbits(np.frombuffer(pixels, np.uint8), bitorder="little")
            pixels = np.packbits(bits[shift : shift + self._bits], bitorder="little").tobytes()
        parts.append(self._coding.element(_PIXELS, self._kind, pixels + bytes(len(pixels) % 2)))
        return b"".join(parts)


def _wanted() -> Wanted:
    return _tags(module("pydicom.datadict", "dicom").tag_for_keyword)


@lru_cache(maxsize=1)
def _tags(number: Callable[[str], int]) -> Wanted:
    """The tags that ``dicom`` parses, by what gives a keyword's number."""

    def tags(names: dict[str, Any]) -> Wanted:
        return {number(name): inside and tags(inside) for name, inside in names.items()}

    pixels = {name for name in PARSED if name.endswith("PixelData") or "OffsetTable" in name}
    return tags({name: _INSIDE.get(name) for name in PARSED if name not in pixels})
