"""What the headers of codestreams claim, read before a decoder takes memory for it.

Files of their own, or parts of a TIFF or a DICOM file, where a header may claim another size than
the file around it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_JXL_BOXES = b"\0\0\0\x0cJXL \r\n\x87\n"
_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height
_SOI, _SIZ = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"
_EXIF = b"Exif\0\0"
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"


class Claim(NamedTuple):
    """What a codestream says of itself."""

    width: int
    height: int
    bits: int
    """Of a sample."""
    samples: int | None = None
    """Of a pixel; None where this reader doesn't tell."""
    signed: bool = False
    floating: bool = False
    kind: int = 0
    """Of a JPEG: the second byte of its frame's marker; 0xC3 is lossless, 0xF7 JPEG-LS."""
    animated: bool = False
    """Of a JPEG XL image: it may hold more frames than one."""
    exif: bytes = b""
    """Of a JPEG: the segment that holds it, without its marker and length."""


def claim(data: bytes) -> Claim | None:
    """Of a JPEG of any kind, JPEG 2000 or JPEG XL; None for anything else, or cut before it."""
    try:
        if data.startswith(_SOI):
            return _jpeg(data)
        if data.startswith(_SIZ):
            return _jpeg2000(data, 4)
        if data.startswith(_JP2):
            at = _in_box(data, b"jp2c")
            return None if at is None or data[at : at + 4] != _SIZ else _jpeg2000(data, at + 4)
        if data.startswith((b"\xff\x0a", _JXL_BOXES)):
            return _jpeg_xl(data)
    except (struct.error, IndexError):
        return None
    return None


def _jpeg(data: bytes) -> Claim | None:
    at, exif = 2, b""
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            bits, height, width, samples = struct.unpack_from(">BHHB", data, at + 4)
            return Claim(width, height, bits, samples, kind=marker, exif=exif)
        if marker == 0xE1 and not exif and data[at + 4 : at + 10] == _EXIF:
            exif = data[at + 4 : at + 2 + length]
        at += 1 if marker == 0xFF else 2 + length
    return None


def _jpeg2000(data: bytes, at: int) -> Claim:
    """SIZ of ISO/IEC 15444-1, A.5.1; ``at`` is behind its marker."""
    x1, y1, x0, y0 = struct.unpack_from(">4I", data, at + 4)
    samples, depth = struct.unpack_from(">HB", data, at + 36)
    # Each component has a depth of its own; what differs is told as the deepest.
    depths = [data[at + 38 + 3 * i] for i in range(min(samples, 4))] or [depth]
    bits = max((each & 0x7F) + 1 for each in depths)
    return Claim(x1 - x0, y1 - y0, bits, samples, signed=any(each & 0x80 for each in depths))


class _Bits:
    """Bits from the least significant of each byte on, as JPEG XL packs them."""

    def __init__(self, data: bytes) -> None:
        self._value, self._at, self._length = int.from_bytes(data, "little"), 0, 8 * len(data)

    def take(self, count: int) -> int:
        if self._at + count > self._length:
            raise IndexError("the header is cut")
        value = self._value >> self._at & ((1 << count) - 1)
        self._at += count
        return value

    def one_of(self, *kinds: tuple[int, int]) -> int:
        """U32 of ISO/IEC 18181-1: a least value, and the number of bits that are added to it."""
        least, count = kinds[self.take(2)]
        return least + self.take(count)


def _jpeg_xl(data: bytes) -> Claim | None:
    """SizeHeader and the beginning of ImageMetadata of ISO/IEC 18181-1, up to the depth."""
    start: int | None = 0
    if data.startswith(_JXL_BOXES):
        start = _in_box(data, b"jxlc", b"jxlp")  # whole, or the first of several parts
        if start is not None and data[start : start + 2] != b"\xff\x0a":
            start += 4  # the number of the part
    if start is None or data[start : start + 2] != b"\xff\x0a":
        return None
    bits = _Bits(data[start + 2 : start + 66])
    width, height = _jpeg_xl_size(bits)
    animated = False
    if bits.take(1):  # all is as by default
        return Claim(width, height, 8)
    if bits.take(1):
        bits.take(3)  # orientation, which the decoder applies
        if bits.take(1):
            _jpeg_xl_size(bits)
        if bits.take(1):
            _jpeg_xl_preview(bits)
        animated = bool(bits.take(1))
        if animated:
            bits.one_of((100, 0), (1000, 0), (1, 10), (1, 30))
            bits.one_of((1, 0), (1001, 0), (1, 8), (1, 10))
            bits.one_of((0, 0), (0, 3), (0, 16), (0, 32))
            bits.take(1)
    floating = bool(bits.take(1))
    depths = ((32, 0), (16, 0), (24, 0), (1, 6)) if floating else ((8, 0), (10, 0), (12, 0), (1, 6))
    return Claim(width, height, bits.one_of(*depths), floating=floating, animated=animated)


def _in_box(data: bytes, *names: bytes) -> int | None:
    """Where the content of the first box of such a name begins."""
    at = 0
    for _ in range(64):
        length, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        if name in names:
            return at + head
        if length < head:
            return None
        at += length
    return None


def _jpeg_xl_size(bits: _Bits) -> tuple[int, int]:
    sides = ((1, 9), (1, 13), (1, 18), (1, 30))
    small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if small else bits.one_of(*sides)
    if ratio := bits.take(3):
        by, to = _JXL_RATIOS[ratio - 1]
        return height * by // to, height
    return (8 * (bits.take(5) + 1) if small else bits.one_of(*sides)), height


def _jpeg_xl_preview(bits: _Bits) -> None:
    eighths = ((16, 0), (32, 0), (1, 5), (33, 9))
    sides = eighths if bits.take(1) else ((1, 6), (65, 8), (321, 10), (1345, 12))
    bits.one_of(*sides)
    if not bits.take(3):
        bits.one_of(*sides)
