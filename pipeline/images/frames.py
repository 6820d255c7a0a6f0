"""How many pictures a file holds, by its structure: nothing is decoded for it."""

from __future__ import annotations

import re
import struct

from PIL import Image

FRAMES = "frames"  # in Image.info, as of SquareImage
_MAX_BLOCKS = 1_000_000  # of a GIF, 255 bytes each
_MAX_PAGES = 65_536  # of a TIFF
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _DESCRIPTION = 254, 255, 270
_REDUCED_OR_MASK, _OLD_REDUCED = 1 | 4, 2
_IMAGE_J = re.compile(rb"ImageJ=[^\n]*\nimages=(\d{1,9})\n")


def count(image: Image.Image, data: bytes) -> int | None:
    """Frames of an animation, or pages of a TIFF that are no thumbnails and no masks.

    Args:
        image: as opened.
        data: the file.

    Returns:
        1 for one picture; None where the file is too odd, or too long, to tell.
    """
    try:
        if image.format == "GIF":
            return _gif(data)
        if image.format == "TIFF":
            return tiff_pages(data)
        return max(1, int(getattr(image, "n_frames", 1)))  # told by the header of all others
    except Exception:
        return None


def _gif(data: bytes) -> int | None:
    """Image descriptors of a GIF (the specification of GIF89a, appendix A)."""
    at, found = 13 + _palette(data[10]), 0
    for _ in range(_MAX_BLOCKS):
        kind = data[at]
        if kind == 0x2C:
            found += 1
            at += 11 + _palette(data[at + 9])  # behind it, the least size of a code
        elif kind == 0x21:
            at += 2
        else:  # the trailer, or nonsense behind the last frame
            return max(1, found)
        while length := data[at]:
            at += 1 + length
        at += 1
        if at >= len(data):
            return max(1, found)
    return None


def _palette(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def tiff_pages(data: bytes) -> int | None:
    """Pages of a classic or big TIFF, or images of an ImageJ stack, which has one page for all.

    Raises:
        struct.error: a directory is cut.
    """
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    word, entry = ("Q", 20) if big else ("I", 12)
    (at,) = struct.unpack_from(f"{order}{word}", data, 8 if big else 4)
    seen: set[int] = set()
    found, stack = 0, 1
    while at and at not in seen:
        if len(seen) == _MAX_PAGES:
            return None
        seen.add(at)
        (number,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, at)
        first = at + (8 if big else 2)
        found += not _is_reduced(data, order, big, first, number)
        if len(seen) == 1:
            stack = _image_j(data)
        (at,) = struct.unpack_from(f"{order}{word}", data, first + entry * number)
    return max(1, found, stack if len(seen) == 1 else 1)


def _is_reduced(data: bytes, order: str, big: bool, first: int, number: int) -> bool:
    word, entry = ("Q", 20) if big else ("I", 12)
    for at in range(first, first + entry * number, entry):
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        if tag > _SUBFILE_TYPE:  # entries are in order
            return False
        letter = "H" if kind == 3 else "I"
        (value,) = struct.unpack_from(
            f"{order}{letter}", data, at + 4 + struct.calcsize(f"<{word}")
        )
        if tag == _NEW_SUBFILE_TYPE and value & _REDUCED_OR_MASK:
            return True
        if tag == _SUBFILE_TYPE and value == _OLD_REDUCED:
            return True
    return False


def _image_j(data: bytes) -> int:
    """ImageJ keeps the images of a stack above 4 GB, and tifffile all, behind one directory."""
    found = _IMAGE_J.search(data, 0, 4096) or _IMAGE_J.search(data, max(0, len(data) - 4096))
    return int(found[1]) if found else 1
