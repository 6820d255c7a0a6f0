"""Pixels of more than 8 bits → 8 bits, by one range for all images of a run.

A range per image would hide what is bright in one picture only, and make two pictures of one part
differ because one of them holds a reflection.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.gray_range import GrayRange

_ROWS = 1 << 22  # values that are converted at a time, so that floats of all never lie in memory
DEEP_SHARE = "deep_share"  # in Image.info, as of SquareImage
DEEP = ("I", "F")  # beginnings of Pillow's modes of more than 8 bits a sample


class NoNumberError(Exception):
    """Pixels that are no numbers lie in no range."""


def is_deep(image: Image.Image) -> bool:
    """Whether the pixels are gray of more than 8 bits."""
    return image.mode.startswith(DEEP)


def is_deep_colour(image: Image.Image) -> bool:
    """Whether Pillow gives the higher bytes of 16-bit colours, of which a range needs both."""
    code = deep_code(image)
    return code is not None and code.startswith("RGB")


def deep_code(image: Image.Image) -> str | None:
    """How 16-bit colours, or gray with alpha, lie in the file, as "RGB;16L"; None for others."""
    tiles = getattr(image, "tile", ())  # one, or one for each of thousands of strips
    if image.mode not in ("RGB", "RGBA", "RGBX", "LA"):
        return None
    codes = [code for tile in tiles[:1] for code in _texts(tile[3]) if ";16" in code]
    return next((code for code in codes if code.startswith(("RGB", "LA"))), None)


def ranged(values: NDArray[np.generic], gray_range: GrayRange) -> NDArray[np.uint8]:
    """Values [H, W] of any real type → uint8, ``low`` to 0 and ``high`` to 255, rounded half up.

    Raises:
        NoNumberError: some are none.
    """
    flat = values.reshape(-1)
    pixels = np.empty(flat.shape, np.uint8)
    scale = 255 / (gray_range.high - gray_range.low)
    for start in range(0, len(flat), _ROWS):
        part = flat[start : start + _ROWS].astype(np.float64)
        if np.isnan(part).any():
            raise NoNumberError("some pixels are no numbers (NaN)")
        np.clip((part - gray_range.low) * scale + 0.5, 0, 255, out=part)
        pixels[start : start + _ROWS] = part
    return pixels.reshape(values.shape)


def _texts(arguments: object) -> list[str]:
    """A decoder's arguments, which are one or a tuple of them."""
    return [str(each) for each in (arguments if isinstance(arguments, tuple) else (arguments,))]
