"""Samples of any depth and type → 8-bit RGB, by one rule for all decoders that give such."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.gray_range import GrayRange

from .gray import DEEP_SHARE, ranged

BYTES_PER_PIXEL = 8  # of 16-bit RGBA, the most that Pillow's formats have
RANGE = "give one (--gray-range), or "
TO_PNG = "convert it to PNG or a TIFF of 8 or 16 bits before upload"


class ElsewhereError(Exception):
    """What Pillow does not read right, and another decoder may; the message is what it is."""


class UnreadError(Exception):
    """An intact image whose pixels are not read; the message says why, and what to do."""


class TooLargeError(Exception):
    """A header claims more pixels than the limit allows."""

    def __init__(self, width: int, height: int, depth: str = "") -> None:
        super().__init__(f"{width} x {height} pixels{depth}")
        self.width, self.height, self.depth = width, height, depth


@dataclass(frozen=True)
class Samples:
    """A picture as it is stored."""

    values: NDArray[np.generic]
    """[H, W] gray or [H, W, 3] RGB, of any real type."""
    bits: int
    """That a value has by what the file declares; of unsigned integers, 2**bits - 1 is white."""
    white_is_zero: bool = False
    orientation: int = 1
    """EXIF's number."""
    frames: int | None = 1
    """That the file holds; None where nothing tells."""
    deep_share: float | None = None
    """As of ``SquareImage``, of values that were more than these before."""


def within(width: int, height: int, limit: int, pixel_bytes: int = 1) -> None:
    """Refuse a size before memory is taken for it.

    Args:
        width, height: in pixels.
        limit: of pixels, each of which may have ``BYTES_PER_PIXEL``.
        pixel_bytes: of one pixel as it is stored.

    Raises:
        TooLargeError: it is larger.
        ValueError: it is no size.
    """
    if width < 1 or height < 1:
        raise ValueError(f"a size of {width} x {height} pixels")
    if width * height > limit:
        raise TooLargeError(width, height)
    if width * height * pixel_bytes > limit * BYTES_PER_PIXEL:
        raise TooLargeError(width, height, f" of {pixel_bytes} bytes, which count as more")


def to_rgb(samples: Samples, gray_range: GrayRange | None) -> Image.Image:
    """Pixels of more than 8 bits by the range, else from 0 to the largest value of their depth.

    Raises:
        UnreadError: values whose type has no fixed range, and there is none.
        NoNumberError: some are no numbers.
    """
    values = samples.values
    signed = values.dtype.kind != "u"
    if gray_range is not None and (signed or samples.bits > 8):
        pixels, share = ranged(values, gray_range), None
    elif signed or samples.bits > 16:
        raise UnreadError(f"{_kind(samples)} have no fixed range; {RANGE}{TO_PNG}")
    else:
        pixels, share = _scaled(values, samples.bits)
    share = samples.deep_share if share is None else share
    image = Image.fromarray(255 - pixels if samples.white_is_zero else pixels).convert("RGB")
    if share is not None:
        image.info[DEEP_SHARE] = share
    return image


def _scaled(values: NDArray[np.generic], bits: int) -> tuple[NDArray[np.uint8], float | None]:
    """Rounded 8 bits, and of deep ones the share of their range that they take."""
    if bits == 8 and values.dtype == np.uint8:
        return np.asarray(values, np.uint8), None
    most = 2**bits - 1
    table = ((np.arange(most + 1, dtype=np.uint32) * 255 + most // 2) // most).astype(np.uint8)
    pixels = table[np.minimum(values, np.asarray(most, values.dtype))]
    if bits <= 8 or not values.size:
        return pixels, None
    return pixels, (min(int(values.max()), most) - int(values.min())) / most


def _kind(samples: Samples) -> str:
    kinds = {"f": "floating-point values", "i": "signed integers"}
    return f"{kinds.get(samples.values.dtype.kind, 'integers')} of {samples.bits} bits"
