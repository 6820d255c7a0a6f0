"""JPEG of other kinds and depths, JPEG-LS, JPEG XL and deep JPEG 2000, by imagecodecs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .extras import module
from .headers import Claim, claim
from .samples import TO_PNG, Samples, UnreadError, within
from .turning import orientation_of

JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
_JPEG = b"\xff\xd8\xff"
_JPEG_2000 = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
_JPEG_LS, _LOSSLESS = 0xF7, 0xC3
_HUFFMAN = (0xC0, 0xC1, 0xC2, _LOSSLESS)  # frames that libjpeg-turbo reads at any depth


def is_codestream(data: bytes) -> bool:
    """Whether ``read`` may know it."""
    return data.startswith((*JPEG_XL, *_JPEG_2000, _JPEG))


def read(data: bytes, limit: int) -> Samples:
    """The first frame.

    Args:
        data: the bytes, or a part of another file.
        limit: pixels.

    Raises:
        MissingExtraError: imagecodecs is not installed.
        TooLargeError: by its header.
        UnreadError: of a kind that is not read.
        Exception: whatever a decoder makes of damage.
    """
    imagecodecs = module("imagecodecs", "formats")
    told = claim(data)
    if told is None:
        raise ValueError("no header")
    within(told.width, told.height, limit)
    if told.samples is not None and told.samples not in (1, 2, 3, 4):
        raise UnreadError(f"{told.samples} samples a pixel; {TO_PNG}")
    values = _decoded(data, told, imagecodecs)
    if values.shape[:2] != (told.height, told.width) and data.startswith(_JPEG):
        raise ValueError("a frame of another size than its header's")
    frames = None if told.animated else 1
    turned = orientation_of(told.exif)
    return Samples(without_alpha(values), told.bits, orientation=turned, frames=frames)


def _decoded(data: bytes, told: Claim, imagecodecs: Any) -> NDArray[np.generic]:
    values: NDArray[np.generic]
    if data.startswith(JPEG_XL):
        values = imagecodecs.jpegxl_decode(data, index=0, numthreads=1)
    elif data.startswith(_JPEG_2000):
        values = imagecodecs.jpeg2k_decode(data, numthreads=1)
    elif told.kind == _JPEG_LS:
        values = imagecodecs.jpegls_decode(data)
    elif told.kind in _HUFFMAN and told.samples in (1, 3):
        values = imagecodecs.jpeg8_decode(data)
    else:
        raise UnreadError(f"a JPEG of {told.samples} samples a pixel of this kind; {TO_PNG}")
    return values


def without_alpha(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """[H, W] or [H, W, 1 to 4] → [H, W] or [H, W, 3]: transparency is dropped.

    Raises:
        UnreadError: another number of samples, of which nothing tells which are colours.
    """
    if values.ndim == 2:
        return values
    if values.ndim != 3 or not 1 <= values.shape[2] <= 4:
        raise UnreadError(f"{values.shape[-1]} samples a pixel; {TO_PNG}")
    return values[..., 0] if values.shape[2] < 3 else values[..., :3]
