"""Resizing that gives the same pixels with every version of Pillow."""

from __future__ import annotations

from PIL import Image

BICUBIC = Image.Resampling.BICUBIC
# Pixels between the two passes: of what is narrow and very tall they would be far more than it has.
MAX_BETWEEN = 100_000_000


def widened(image: Image.Image, width: int, by: Image.Resampling = BICUBIC) -> Image.Image:
    """The image at another width, each row by itself; the first of two passes.

    Between them pixels are rounded and clipped to 8 bits, so their order shows: by up to 26 grey
    levels on noise, by 2 on photographs. Up to version 12, with which the released code ran, Pillow
    always took rows first; 13 takes columns first where that is less work, as of most images taller
    than wide. What has more than ``MAX_BETWEEN`` pixels in between comes as it is, for Pillow to
    choose.
    """
    if width * image.height > MAX_BETWEEN:
        return image
    return image.resize((width, image.height), by)
