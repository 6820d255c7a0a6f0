"""Bytes of mask files → which pixels of the model's square are defect."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images import FORMATS, upright
from ..images.png import without_large_texts
from ..images.resizing import widened
from ..inputs.shards import read_named
from .listing import DatasetError

# Masks without a larger value hold class numbers (VisA: 1, 2, ... by kind of defect), the others
# grey levels (MVTec AD: 0 and 255).
MAX_CLASS_NUMBER = 127

# Lossless masks of so few values name kinds of defects by them, and all but the background counts.
# More come from compression or soft edges: JPEG leaves dozens beside an edge.
MAX_KINDS = 16
_LOSSY = ("JPEG", "AVIF")

OPAQUE = 127  # of 255: what is less counts as transparent

# Share of a mask's defect that may vanish in the model's square before the mask is no longer one:
# specks beside a defect are far below it, scratches thinner than a pixel far above.
MAX_LOST_SHARE = 0.1
BLACK = "the mask is black"


class LostMaskError(Exception):
    """Masks that can be read and say nothing of where the defect is in the model's square."""


def read_masks(uris: Sequence[str], size: int, *, width: int, height: int) -> NDArray[np.bool_]:
    """The union of an abnormal image's masks in the model's square.

    Args:
        uris: of the masks; none means a good image, whose mask is empty.
        size: side of the square result in pixels.
        width, height: of the image in pixels, as displayed.

    Returns:
        bool [size, size], true on the defect.

    Raises:
        LostMaskError: the masks are black, or more than ``MAX_LOST_SHARE`` of the defect vanishes
            in the square because it is thinner than a pixel of it.
        DatasetError: a file is no mask of this image; the message names it.
        StorageError: a file can't be read.
    """
    if not uris:
        return np.zeros((size, size), dtype=bool)
    defect = np.zeros((height, width), dtype=bool)
    for uri in uris:
        try:
            defect |= _binary(read_named(uri), width, height)
        except DatasetError as error:
            raise DatasetError(f"{uri}: {error}") from error
    if not defect.any():
        raise LostMaskError(BLACK)
    square = _resized(defect, size)
    if (lost := _lost_share(defect, square)) > MAX_LOST_SHARE:
        raise LostMaskError(
            f"{lost:.0%} of the defect is thinner than a pixel of the {size} px square"
        )
    return square


def decode_mask(data: bytes, size: int, *, width: int, height: int) -> NDArray[np.bool_]:
    """Decode a mask and resize it as AdaCLIP's released code does.

    Integers up to 127 throughout are class numbers, and up to 16 different values in a file
    without loss are kinds of defects: everything but 0, or black, is defect. Otherwise values are
    grey levels: everything above half of the largest is defect, which drops the noise that JPEG
    compression leaves beside an edge (the released code takes everything above 0, in all masks).
    Transparent pixels are no defect. The binary mask is resized with Pillow's bilinear filter and
    cut at 0.5.

    Args:
        data: the file's bytes: 1-, 8- or 16-bit, grey, palette, colour or transparency.
        size: side of the square result in pixels.
        width: width in pixels of the image to which the mask belongs, as displayed.
        height: its height.

    Returns:
        bool [size, size], true on the defect.

    Raises:
        DatasetError: the bytes are no image, of another size than the image, or do not tell what
            is background. The message does not name the file, which the caller knows.
    """
    return _resized(_binary(data, width, height), size)


def has_defect(data: bytes) -> bool:
    """Whether any pixel of a mask, at its own size, is defect.

    Raises:
        DatasetError: the bytes are no image.
    """
    return bool(_binary(data).any())


def _resized(defect: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    image = Image.fromarray(defect.astype(np.uint8) * 255)
    by = Image.Resampling.BILINEAR
    resized = np.asarray(widened(image, size, by).resize((size, size), by))
    return np.asarray(resized / 255 > 0.5)


def _lost_share(defect: NDArray[np.bool_], square: NDArray[np.bool_]) -> float:
    """Share of the defect's pixels that are far from any defect in the square.

    Near is in a pixel of the square that is defect, or beside one: resizing may move an edge by
    one, but where a thin defect vanished nothing is left beside it either.
    """
    size = len(square)
    around = np.pad(square, 1)
    near = np.zeros_like(square)
    for row, column in np.ndindex(3, 3):
        near |= around[row : row + size, column : column + size]
    rows, columns = (np.arange(side) * size // side for side in defect.shape)
    kept = defect & near[rows[:, None], columns]
    return 1 - float(kept.sum() / defect.sum())


def _binary(data: bytes, width: int | None = None, height: int | None = None) -> NDArray[np.bool_]:
    """Which pixels [height, width] of a mask file are defect."""
    try:
        image: Image.Image = Image.open(io.BytesIO(without_large_texts(data)), formats=FORMATS)
        # Compared before any pixel is decoded: a mask is thereby no larger than its image.
        if width is not None and sorted(image.size) != sorted((width, height or 0)):
            raise _other_size(image, width, height)
        lossy = image.format in _LOSSY
        _refuse_deep_colours(image)
        image = upright(image)
        if width is not None and image.size != (width, height):
            raise _other_size(image, width, height)
        return _defect(image, lossy)
    except DatasetError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever the damage led them to
        raise DatasetError(f"the mask can't be decoded: {error}") from error


def _other_size(image: Image.Image, width: int, height: int | None) -> DatasetError:
    return DatasetError(
        f"the mask has {image.width} x {image.height} pixels, its image {width} x {height};"
        " export the mask at the size of the image"
    )


def _refuse_deep_colours(image: Image.Image) -> None:
    """Pillow keeps the upper half of 16-bit colours, in which class numbers are all 0."""
    if image.mode in ("RGB", "RGBA", "LA") and ";16" in str(getattr(image, "tile", "")):
        raise DatasetError("the mask has 16 bits a colour; export it with 8 bits, or in grey")


def _defect(image: Image.Image, lossy: bool) -> NDArray[np.bool_]:
    if image.has_transparency_data:
        pixels = np.asarray(image.convert("RGBA"))
        opaque = pixels[..., 3] > OPAQUE
        if not opaque.all():
            return _opaque_defect(pixels[..., :3], opaque)
    if image.mode in ("1", "L", "F") or image.mode.startswith("I"):
        return _above_background(np.asarray(image), lossy)
    colours = np.asarray(image.convert("RGB"))
    packed = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    kinds = np.unique(packed)
    if lossy or len(kinds) > MAX_KINDS:
        return _above_background(colours.max(axis=-1), lossy)
    background = 0
    if 0 not in kinds and len(kinds) > 1:
        background = _background_of_palette(image)
    return np.asarray(packed != background)


def _background_of_palette(image: Image.Image) -> int:
    """The packed colour of a palette's first entry, where nothing is black."""
    if image.mode != "P":
        raise DatasetError(
            "the mask has several colours and no black for the background; export it with black "
            "where there is no defect"
        )
    red, green, blue = (image.getpalette() or [0, 0, 0])[:3]
    return (red << 16) + (green << 8) + blue


def _opaque_defect(colours: NDArray[np.uint8], opaque: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The defect where some pixels are transparent: they are background, whatever their colour."""
    coloured = opaque & (colours > 0).any(axis=-1)
    if not coloured.any():
        return opaque
    if (opaque & ~coloured).any():
        raise DatasetError(
            "the mask has transparent, black and coloured pixels, of which two could be the "
            "background; export it without transparency"
        )
    return coloured


def _above_background(values: NDArray[Any], lossy: bool) -> NDArray[np.bool_]:
    """Where grey values [height, width] say defect."""
    largest = float(values.max())
    if np.isnan(largest):
        raise DatasetError("the mask holds values that are no numbers; export it as integers")
    numbers = largest <= MAX_CLASS_NUMBER and values.dtype.kind != "f"
    few = not lossy and len(np.unique(values)) <= MAX_KINDS
    return np.asarray(values > (0 if numbers or few else largest / 2))
