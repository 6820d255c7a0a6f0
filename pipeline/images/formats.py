"""What a file is that Pillow does not read: its format, and what its pixels are, in words.

An intact file in another format must not be called cut short: whoever looks after the upload would
search where nothing is wrong.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_TO_PNG = "convert it to JPEG, PNG or TIFF before upload"
_SCALED = "scale its values and save them as 8- or 16-bit PNG or TIFF before upload"
_PLAIN = "save it as grey of 8 or 16 bits or RGB of 8, as PNG or a TIFF with Deflate, before upload"

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_SIGNATURES: dict[bytes, tuple[str, str]] = {
    b"\x93NUMPY": ("a NumPy array", _SCALED),
    b"PF\n": ("a PFM image of floating-point colours", _SCALED),
    b"\xff\x0a": ("a JPEG XL image", _TO_PNG),
    b"\0\0\0\x0cJXL ": ("a JPEG XL image", _TO_PNG),
    b"II\xbc\x01": ("a JPEG XR image", _TO_PNG),
    b"v/1\x01": ("an OpenEXR image of floating-point colours", _SCALED),
    b"#?RADIANCE": ("a Radiance HDR image of floating-point colours", _SCALED),
    b"SIMPLE  =": ("a FITS file", _SCALED),
    b"\x89HDF\r\n": ("an HDF5 file", _SCALED),
    b"8BPS": ("a Photoshop document", _TO_PNG),
    b"P7\n": ("a PAM image", _TO_PNG),
}

_SAMPLES = {
    1: "unsigned integers",
    2: "signed integers",
    3: "floating point",
    5: "complex integers",
    6: "complex floating point",
}
_COMPRESSIONS = {
    1: "uncompressed",
    2: "CCITT",
    3: "CCITT Group 3",
    4: "CCITT Group 4",
    5: "LZW",
    6: "old JPEG",
    7: "JPEG",
    8: "Deflate",
    32773: "PackBits",
    32946: "Deflate",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34925: "LZMA",
    34933: "PNG",
    34934: "JPEG XR",
    22610: "JPEG XR",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
# What every build of Pillow inflates: a file of these that fails is damaged.
_INFLATED = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946))
# TIFF tags, and bytes of a value by TIFF's number of its type.
_BITS, _COMPRESSION, _SAMPLES_PER_PIXEL, _SAMPLE_FORMAT = 258, 259, 277, 339
_PARTS = ((273, 279), (324, 325))  # offsets and lengths of strips, and of tiles
_WANTED = {_BITS, _COMPRESSION, _SAMPLES_PER_PIXEL, _SAMPLE_FORMAT, *_PARTS[0], *_PARTS[1]}
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 18: 8}

_JPEG_KINDS = {
    0xC3: "lossless JPEG",
    0xC5: "differential JPEG",
    0xC6: "differential progressive JPEG",
    0xC7: "differential lossless JPEG",
    0xCB: "lossless arithmetic JPEG",
    0xF7: "JPEG-LS image",
}


class Unread(NamedTuple):
    """An intact file that Pillow does not read."""

    what: str
    remedy: str

    @property
    def unread(self) -> str:
        """A sentence for what no decoder is there for."""
        return f"{self.what}, which is not read; {self.remedy}"

    def needing(self, install: str) -> str:
        """A sentence for what is read once a package is installed."""
        return f"{self.what}, which needs {install}; or {self.remedy}"


def unread_format(data: bytes, *, known: bool) -> Unread | None:
    """An intact file that Pillow does not read, and what to do with it; None for any other.

    Args:
        data: the file's bytes.
        known: whether Pillow knew the format, and failed at the pixels.
    """
    if not known and (named := _named(data)):
        return Unread(*named)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        found = _tiff(data, known)
    elif data.startswith(b"BM"):
        found = _bmp(data)
    else:
        found = _jpeg(data, known) if data.startswith(b"\xff\xd8\xff") else None
    return None if found is None else Unread(found, _PLAIN)


def _named(data: bytes) -> tuple[str, str] | None:
    if data[128:132] == b"DICM":
        return "a DICOM file", "export its frames as 8- or 16-bit PNG before upload"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "a HEIC image", _TO_PNG
    return next((told for start, told in _SIGNATURES.items() if data.startswith(start)), None)


def _bmp(data: bytes) -> str | None:
    """A bitmap in words; None if it is cut short, or should have been read."""
    try:
        (start,) = struct.unpack_from("<I", data, 10)
        header, width, height, _, bits, packing, length = struct.unpack_from("<IiiHHII", data, 14)
    except struct.error:
        return None
    usual = packing in (1, 2) or (packing == 0 and bits in (1, 4, 8, 16, 24, 32))
    needed = length or abs(height) * ((width * bits + 31) // 32 * 4)
    if header < 40 or usual or len(data) < start + needed:
        return None
    layout = {0: "uncompressed", 3: "bit fields of its own"}.get(packing, f"compression {packing}")
    return f"a BMP of {bits} bits a pixel ({layout})"


def _tiff(data: bytes, known: bool) -> str | None:
    """A TIFF's first image in words; None if it is cut short, or should have been read."""
    try:
        tags = _tiff_tags(data)
    except (struct.error, IndexError, KeyError):
        return None
    for offsets, lengths in _PARTS:
        ends = zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
        if any(offset + length > len(data) for offset, length in ends):
            return None
    compression = tags.get(_COMPRESSION, (1,))[0]
    if known and compression in _INFLATED:
        return None
    bits, samples = tags.get(_BITS, (1,)), tags.get(_SAMPLES_PER_PIXEL, (1,))[0]
    kind = _SAMPLES.get(tags.get(_SAMPLE_FORMAT, (1,))[0], "undefined values")
    packed = _COMPRESSIONS.get(compression, f"compression {compression}")
    return (
        f"a TIFF with {samples} {'sample' if samples == 1 else 'samples'} a pixel of "
        f"{' and '.join(map(str, dict.fromkeys(bits)))} bits ({kind}), {packed}"
    )


def _tiff_tags(data: bytes) -> dict[int, tuple[int, ...]]:
    """``_WANTED`` tags of the first directory, of classic and of big TIFF.

    Raises:
        struct.error, IndexError, KeyError: the directory, or a value of it, is not whole.
    """
    tags: dict[int, tuple[int, ...]] = {}
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    word, inline = ("Q", 8) if big else ("I", 4)
    (at,) = struct.unpack_from(f"{order}{word}", data, 8 if big else 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, at)
    at += 8 if big else 2
    for _ in range(count):
        tag, kind, number = struct.unpack_from(f"{order}HH{word}", data, at)
        value = at + (12 if big else 8)
        if _BYTES[kind] * number > inline:
            (value,) = struct.unpack_from(f"{order}{word}", data, value)
        if value + _BYTES[kind] * number > len(data):
            raise IndexError(tag)
        letter = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
        if letter and number and tag in _WANTED and tag not in tags:
            tags[tag] = struct.unpack_from(f"{order}{number}{letter}", data, value)
        at += 20 if big else 12
    return tags


def _jpeg(data: bytes, known: bool) -> str | None:
    """A JPEG of a kind or depth that is not read; None if it is cut short, or should have been."""
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            precision, kind = data[at + 4], _JPEG_KINDS.get(marker, "")
            whole = data.rfind(b"\xff\xd9") > at
            if not whole or (precision == 8 and (known or not kind)):
                return None
            return f"a {kind or 'lossy JPEG'} of {precision} bits"
        at += 1 if marker == 0xFF else 2 + length
    return None
