"""Bytes of a mask file → which pixels of the model's square are defect."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images import FORMATS
from .listing import DatasetError

# Masks without a larger value hold class numbers (VisA: 1, 2, ... by kind of defect), the others
# grey levels (MVTec AD: 0 and 255).
MAX_CLASS_NUMBER = 127


def decode_mask(data: bytes, size: int, *, width: int, height: int) -> NDArray[np.bool_]:
    """Decode a mask and resize it as AdaCLIP's released code does.

    Values up to 127 throughout are class numbers: everything above 0 is defect. Otherwise they are
    grey levels: everything above half of the largest is defect, which drops the noise that JPEG
    compression leaves beside an edge (the released code takes everything above 0, in all masks).
    The binary mask is resized with Pillow's bilinear filter and cut at 0.5.

    Args:
        data: the file's bytes: 1-, 8- or 16-bit, grey, palette or colour.
        size: side of the square result in pixels.
        width: width in pixels of the image to which the mask belongs, as displayed.
        height: its height.

    Returns:
        bool [size, size], true on the defect.

    Raises:
        DatasetError: the bytes are no image, or of another size than the image. The message does
            not name the file, which the caller knows.
    """
    values = _values(data, width, height)
    resized = Image.fromarray(_binary(values).astype(np.uint8) * 255).resize(
        (size, size), Image.Resampling.BILINEAR
    )
    return np.asarray(np.asarray(resized) / 255 > 0.5)


def has_defect(data: bytes) -> bool:
    """Whether any pixel of a mask, at its own size, is defect.

    Raises:
        DatasetError: the bytes are no image.
    """
    return bool(_binary(_values(data)).any())


def _values(data: bytes, width: int | None = None, height: int | None = None) -> NDArray[Any]:
    """The mask's numbers [height, width]; of colours, the strongest channel."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        # Compared before any pixel is decoded: a mask is thereby no larger than its image.
        if width is not None and image.size != (width, height):
            raise DatasetError(
                f"the mask has {image.width} x {image.height} pixels, its image {width} x {height};"
                " export the mask at the size of the image"
            )
        if image.mode in ("1", "L", "F") or image.mode.startswith("I"):
            return np.asarray(image)
        return np.asarray(np.asarray(image.convert("RGB")).max(axis=-1))
    except DatasetError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever the damage led them to
        raise DatasetError(f"the mask can't be decoded: {error}") from error


def _binary(values: NDArray[Any]) -> NDArray[np.bool_]:
    largest = float(values.max())
    return np.asarray(values > (0 if largest <= MAX_CLASS_NUMBER else largest / 2))
