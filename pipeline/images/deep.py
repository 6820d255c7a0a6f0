"""All bits of deep pixels, where Pillow alone gives eight of them, or has shifted them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .codestreams import without_alpha
from .gray import deep_code, is_deep
from .headers import claim
from .samples import RANGE, TO_PNG, ElsewhereError, Samples, UnreadError

_NATIVE = "L" if sys.byteorder == "little" else "B"
_OTHER = {"L": "B", "B": "L"}
Opened = Callable[[], Image.Image]


def jpeg_2000(image: Image.Image, data: bytes, *, ranged: bool) -> Samples | None:
    """The values of a JPEG 2000 file, where Pillow (13.0) gives others; None where it is right.

    Pillow moves all values to the top of 8 or 16 bits, signed ones up by half of their range. Of
    colours above 8 bits, and gray of 9, it rounds the highest to 256, which is black.

    Args:
        image: as opened; its pixels may be loaded by this.
        data: the file.
        ranged: a range is meant for its values.

    Raises:
        ElsewhereError: another decoder gives them.
        UnreadError: they have no range of their own.
    """
    told = claim(data)
    if told is None or (told.bits == 8 and not told.signed):
        return None
    if not ranged and (told.signed or told.bits > 16):
        kind = "signed integers" if told.signed else "integers"
        raise UnreadError(f"{kind} of {told.bits} bits have no fixed range; {RANGE}{TO_PNG}")
    shallow = told.bits > 8 and not is_deep(image)
    if told.bits > 16 or shallow or (told.signed and told.samples != 1):
        raise ElsewhereError(f"a JPEG 2000 image of {told.samples} samples of {told.bits} bits")
    if image.mode == "P" or (told.bits > 8 and not ranged):
        return None
    values = without_alpha(np.asarray(image)).astype(np.int32)
    values >>= (16 if is_deep(image) else 8) - told.bits
    if told.signed:
        return Samples(values - 2 ** (told.bits - 1), told.bits)
    return Samples(values.astype(np.uint16), told.bits)


def samples(image: Image.Image, data: bytes, opened: Opened) -> Samples | None:
    """The values that a range is meant for; None where Pillow gives them, or has eight bits.

    Args:
        image: as opened; its pixels may be loaded by this.
        data: the file.
        opened: opens the same page once more.

    Raises:
        UnreadError: nothing reads all bits of them.
    """
    if image.format == "PPM":
        return _netpbm(image, data)
    code = deep_code(image)
    return None if code is None else Samples(_colours(image, code, opened), 16)


def _netpbm(image: Image.Image, data: bytes) -> Samples | None:
    """Pillow scales these to 8 or 16 bits by the largest value that the header names."""
    codec, _, offset, arguments = image.tile[0]  # type: ignore[attr-defined]
    most = arguments[1] if isinstance(arguments, tuple) and len(arguments) == 2 else 0
    if codec not in ("ppm", "ppm_plain") or not isinstance(most, int) or most <= 255:
        return None
    if image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        return Samples(((values * most + 0x7FFF) // 0xFFFF).astype(np.uint16), 16)
    if codec == "ppm_plain":
        raise UnreadError(f"a plain PPM of more than 8 bits; {TO_PNG}")
    width, height = image.size
    stored = np.frombuffer(data, ">u2", 3 * width * height, offset).reshape(height, width, 3)
    return Samples(stored.astype(np.uint16), 16)


def _colours(image: Image.Image, code: str, opened: Opened) -> NDArray[np.uint16]:
    """[H, W, 3] of both bytes of each sample: one pass takes the higher, another the lower."""
    if code.startswith("LA"):  # for which there is no such pair; four bytes a pixel are RGBA's
        parts = np.asarray(_as(opened(), code, "RGBA")).astype(np.uint16)
        np.asarray(image)  # what tells the orientation may stand behind the pixels
        return np.repeat((parts[..., :1] << 8) | parts[..., 1:2], 3, axis=-1)
    order = _NATIVE if code[-1] == "N" else code[-1]
    high = np.asarray(image).astype(np.uint16)[..., :3]
    low = np.asarray(_as(opened(), code, f"{code[:-1]}{_OTHER[order]}"))[..., :3]
    return np.asarray(high << 8 | low, np.uint16)


def _as(image: Image.Image, code: str, wanted: str) -> Image.Image:
    """The image with its pixels unpacked in another way."""

    def other(arguments: object) -> object:
        if isinstance(arguments, tuple):
            return tuple(wanted if each == code else each for each in arguments)
        return wanted if arguments == code else arguments

    tiles = image.tile  # type: ignore[attr-defined]
    image.tile = [tile._replace(args=other(tile.args)) for tile in tiles]  # type: ignore[attr-defined]
    return image
