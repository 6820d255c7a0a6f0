"""TIFF that Pillow doesn't read: packed bits, floats, LERC, JPEG XL and others, by tifffile."""

from __future__ import annotations

import io
import logging
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import tiff
from .codestreams import without_alpha
from .extras import module
from .headers import claim
from .samples import TO_PNG, Samples, UnreadError, within

_GRAY, _WHITE_IS_ZERO, _RGB, _PALETTE, _YCBCR = 1, 0, 2, 3, 6
_PICTURES = (_GRAY, _WHITE_IS_ZERO, _RGB, _PALETTE, _YCBCR)
# Compressions that unpack no more than they are told to (imagecodecs' out=), and those that are
# images with a size of their own.
_BYTES = (1, 5, 8, 32773, 32946, 34925, 50000)
_LERC, _JPEG, _PNG, _WEBP, _JPEG_XL = 34887, 7, 34933, 50001, 50002
_JPEG_2000 = (33003, 33004, 33005, 34712)
_IMAGES = (_JPEG, *_JPEG_2000, _PNG, _WEBP, _JPEG_XL)
_PREMULTIPLIED = 1
_REDUCED_OR_MASK = 1 | 4  # bits of NewSubfileType
_LERC_PARAMETERS, _ORIENTATION = 50674, 274


def read(data: bytes, limit: int) -> Samples:
    """The first page that is no thumbnail and no mask, also among sub-pages.

    Args:
        data: the file.
        limit: pixels.

    Raises:
        MissingExtraError: tifffile or imagecodecs is not installed.
        TooLargeError: by its tags.
        UnreadError: of a kind that is not read.
        Exception: whatever a decoder makes of damage.
    """
    tifffile = module("tifffile", "formats")
    module("imagecodecs", "formats")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it tells of each odd tag
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = _picture(file)
        _check(page, data, limit)
        values: NDArray[np.generic] = page.asarray(maxworkers=1)
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            values = np.moveaxis(values, 0, -1)
        orientation = page.tags.valueof(_ORIENTATION, 1)
        bits = _bits(page)
        if page.photometric == _PALETTE:
            colours = (np.moveaxis(page.colormap, 0, -1) >> 8).astype(np.uint8)
            values, bits = colours[values], 8
        return Samples(
            without_alpha(values),
            bits,
            white_is_zero=page.photometric == _WHITE_IS_ZERO,
            orientation=orientation if isinstance(orientation, int) else 1,
        )


def _picture(file: Any) -> Any:
    for number in range(tiff.MAX_PAGES):
        try:
            page = file.pages[number]
        except IndexError:
            break
        if not page.subfiletype & _REDUCED_OR_MASK:
            return page
        for below in (page.pages or ())[: tiff.MAX_PAGES]:
            if not below.subfiletype & _REDUCED_OR_MASK:
                return below
    return file.pages[0]


def _check(page: Any, data: bytes, limit: int) -> None:
    """Refuse what is not read, and any part that claims more memory than the picture has."""
    samples, bits = page.samplesperpixel, page.bitspersample
    if page.is_dng or page.photometric not in _PICTURES:
        raise UnreadError(f"a TIFF with the colours {_name(page.photometric)}; {TO_PNG}")
    colours = 3 if page.photometric in (_RGB, _YCBCR) else 1
    if not colours <= samples <= colours + 1:
        raise UnreadError(f"a TIFF with {samples} samples a pixel; {TO_PNG}")
    if _PREMULTIPLIED in page.extrasamples or page.imagedepth != 1 or page.dtype is None:
        raise UnreadError(f"a TIFF with premultiplied colours, depth or unknown samples; {TO_PNG}")
    if page.dtype.kind not in "uif" or page.compression not in (*_BYTES, *_IMAGES, _LERC):
        raise UnreadError(f"a TIFF with {page.dtype} samples, {_name(page.compression)}; {TO_PNG}")
    pixel_bytes = samples * max(page.dtype.itemsize, bits // 8)
    within(page.imagewidth, page.imagelength, limit, pixel_bytes)
    height, width = _part(page)
    within(width, height, limit, pixel_bytes)
    if page.compression in (*_IMAGES, _LERC):
        if page.compression == _LERC and any(page.tags.valueof(_LERC_PARAMETERS, (0, 0))[1:]):
            raise UnreadError(f"a TIFF with LERC that is compressed once more; {TO_PNG}")
        for offset, length in zip(page.dataoffsets, page.databytecounts, strict=False):
            size = _size(data[offset : offset + length], page.compression)
            if length and (size is None or size[0] > width or size[1] > height):
                raise ValueError("a strip or tile of another size than the page tells")


def _name(value: Any) -> str:
    """Of a member of tifffile's enumerations, or a number that they lack."""
    return str(getattr(value, "name", value))


def _part(page: Any) -> tuple[int, int]:
    """Height and width of a strip or tile."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _size(part: bytes, compression: int) -> tuple[int, int] | None:
    """Width and height of an image within the page, by its own header."""
    if compression == _LERC:  # "Lerc2 ", version, from 3 on a checksum, then rows and columns
        (version,) = struct.unpack_from("<i", part, 6)
        height, width = struct.unpack_from("<2i", part, 14 if version >= 3 else 10)
        return (width, height) if part.startswith(b"Lerc2 ") else None
    if compression in (_PNG, _WEBP):
        return Image.open(io.BytesIO(part), formats=("PNG", "WEBP")).size
    told = claim(part)
    return None if told is None else (told.width, told.height)


def _bits(page: Any) -> int:
    if page.dtype.kind != "u":
        return int(page.bitspersample)
    return tiff.declared_bits({tag.code: tag.value for tag in page.tags if tag.code in tiff.DEPTHS})
