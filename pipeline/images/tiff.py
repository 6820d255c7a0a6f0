"""TIFF pages as they are meant, where Pillow (13.0) gives other pixels without a word."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from PIL import Image

from pipeline.gray_range import GrayRange

from .gray import is_deep, ranged
from .samples import RANGE, TO_PNG, ElsewhereError

# Tags (TIFF 6.0; the last one of the DNG specification).
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _HEIGHT = 254, 255, 256, 257
_BITS, _COMPRESSION, _PHOTOMETRIC = 258, 259, 262
_MAX_SAMPLE, _S_MAX_SAMPLE = 281, 341
_FULL_SCALES = [2**bits - 1 for bits in range(9, 16)]
_STRIP_OFFSETS, _STRIP_LENGTHS, _PLANES, _SUB_PAGES, _SAMPLE_FORMAT = 273, 279, 284, 330, 339
_DNG_VERSION = 50706
_WHITE_IS_ZERO, _RGB, _COLOUR_FILTERS, _LINEAR_RAW = 0, 2, 32803, 34892  # photometrics
_SIGNED = 2  # sample format
_UNCOMPRESSED, _SEPARATE = 1, 2
_BIG_ENDIAN = b"MM"
_EXTRA, _PREMULTIPLIED = 338, 1
_DESCRIPTION = 270
DEPTHS = (_BITS, _MAX_SAMPLE, _S_MAX_SAMPLE, _DESCRIPTION)
_DESCRIPTION_LENGTH = 10_000  # of which ImageJ's range stands in the first lines
_IMAGE_J_RANGE = re.compile(r"^(min|max)=(\d{1,9}(?:\.\d{1,9})?)\s*$", re.MULTILINE)
_REDUCED = 1  # bit 0 of NewSubfileType
_OLD_REDUCED = 2  # SubfileType
MAX_PAGES = 32  # that are looked at for one that is no thumbnail


def choose_page(image: Image.Image) -> None:
    """Go to the first page that is no reduced version of another; the first if all are.

    Raises:
        ElsewhereError: Pillow does not know its pixels.
    """
    if not _is_reduced(image):
        return
    for page in range(1, MAX_PAGES):
        try:
            image.seek(page)
        except EOFError:
            break
        except SyntaxError as error:  # Pillow's, of pixels that it does not know
            raise ElsewhereError(
                f"a thumbnail before a picture whose pixels Pillow does not read ({error})"
            ) from error
        if not _is_reduced(image):
            return
    image.seek(0)


def refusal(image: Image.Image, *, ranged: bool = False) -> str | None:
    """Why no decoder reads a page right, and what to do; None if one does.

    By what the file declares, never by its values: of two pictures of one camera, one must not be
    scaled otherwise because it holds no dark pixel.

    Args:
        image: the page, as opened.
        ranged: there is a range for values that have none of their own.
    """
    tags = _tags(image)
    if _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in (_COLOUR_FILTERS, _LINEAR_RAW):
        return f"a raw camera file, which is not read; {TO_PNG}"
    bits = tags.get(_BITS, (1,))
    if not ranged and _SIGNED in _tuple(tags, _SAMPLE_FORMAT):
        return f"signed integers of {bits[0]} bits have no fixed range; {RANGE}{TO_PNG}"
    if not ranged and image.mode == "I" and bits[0] > 16:
        return f"integers of {bits[0]} bits have no fixed range; {RANGE}{TO_PNG}"
    return None


def elsewhere(image: Image.Image, *, ranged: bool = False) -> str | None:
    """What a page is that Pillow opens and gives wrong pixels of; None if it is right.

    Args:
        image: the page, as opened.
        ranged: all bits of its values are wanted.
    """
    tags = _tags(image)
    bits, planes = tags.get(_BITS, (1,)), tags.get(_PLANES) == _SEPARATE
    if _is_reduced(image) and _SUB_PAGES in tags:
        return "a thumbnail whose picture lies in a sub-page"
    if _SIGNED in _tuple(tags, _SAMPLE_FORMAT) and not (bits[0] > 8 and is_deep(image)):
        return f"signed integers of {bits[0]} bits"
    if image.mode in ("I", "F") and tags.prefix == _BIG_ENDIAN and _is_compressed(tags):
        return f"compressed values of {bits[0]} bits whose first byte is the highest"  # swapped
    premultiplied = _PREMULTIPLIED in _tuple(tags, _EXTRA)
    plain = _STRIP_OFFSETS in tags and tags.get(_PHOTOMETRIC) == _RGB and not premultiplied
    if _is_separate(tags) and not plain:
        return "16-bit samples in separate planes that are no strips of plain RGB"
    if ranged and set(bits) == {16} and len(bits) > 1 and (premultiplied or planes):
        return None if _is_separate(tags) else "16-bit colours in separate planes or premultiplied"
    return None


def corrected(image: Image.Image, data: bytes, gray_range: GrayRange | None = None) -> Image.Image:
    """A page's pixels where Pillow's are others, else the page itself.

    That is RGB of 16 bits in separate planes without compression, grey of 16 bits where white is
    zero, and grey of fewer bits than its 16-bit pixels have, or than it declares as its range.

    Args:
        image: the page, as opened.
        data: the file.
        gray_range: the caller's for all gray of more than 8 bits, by which values stay as they are
            but for the direction of grey where white is zero.

    Raises:
        OSError: its data ends before its pixels do.
    """
    tags = _tags(image)
    if _is_separate(tags):
        return _separate(tags, data, gray_range)
    inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if gray_range is not None and is_deep(image):
        return _in_range(image, gray_range, inverted=inverted)
    bits = declared_bits(tags)
    if not image.mode.startswith("I;16") or (bits == 16 and not inverted):
        return image
    most = np.uint16(2**bits - 1)
    values = np.minimum(np.asarray(image).astype(np.uint16), most)  # in this machine's byte order
    values = most - values if inverted else values
    if bits < 16:
        values = ((values.astype(np.uint32) * 0xFFFF + most // 2) // most).astype(np.uint16)
    return Image.fromarray(values)


def declared_bits(tags: Any) -> int:
    """Bits of gray values, as far as a file says so.

    What calls itself the largest value counts where it is one of a camera, 4095 for 12 bits, and
    so does the display range of ImageJ where it goes from 0 to one. Others are the largest of this
    picture (TIFF 6.0 calls the field a statistic), and would stretch each picture otherwise.

    Args:
        tags: values by TIFF's number, of ``DEPTHS``.
    """
    bits = int(_tuple(tags, _BITS)[0]) if _BITS in tags else 1
    for most in [*_tuple(tags, _MAX_SAMPLE)[:1], *_tuple(tags, _S_MAX_SAMPLE)[:1], _image_j(tags)]:
        if bits == 16 and most in _FULL_SCALES:
            return int(most).bit_length()
    return bits


def _image_j(tags: Any) -> float:
    """The upper end of ImageJ's display range, if its lower is 0; else 0.

    https://imagej.net/ij/source/ij/io/FileSaver.java writes it into the description.
    """
    text = tags.get(_DESCRIPTION, "")
    if not isinstance(text, str) or not text.startswith("ImageJ="):
        return 0
    found = dict(_IMAGE_J_RANGE.findall(text[:_DESCRIPTION_LENGTH]))
    return float(found.get("max", 0)) if float(found.get("min", 0)) == 0 else 0


def _in_range(image: Image.Image, gray_range: GrayRange, *, inverted: bool) -> Image.Image:
    values = np.asarray(image)
    unsigned = _SIGNED not in _tuple(_tags(image), _SAMPLE_FORMAT)
    if image.mode == "I" and unsigned:  # Pillow has no type for them, and gives the same bits
        values = values.view(np.uint32)
    pixels = ranged(values, gray_range)
    return Image.fromarray(255 - pixels if inverted else pixels)


def _tags(image: Image.Image) -> Any:
    return image.tag_v2  # type: ignore[attr-defined]


def _tuple(tags: Any, tag: int) -> tuple[Any, ...]:
    value = tags.get(tag, ())
    return value if isinstance(value, tuple) else (value,)


def _is_reduced(image: Image.Image) -> bool:
    tags = _tags(image)
    kind = tags.get(_NEW_SUBFILE_TYPE)
    reduced = isinstance(kind, int) and bool(kind & _REDUCED)
    return reduced or tags.get(_SUBFILE_TYPE) == _OLD_REDUCED


def _is_compressed(tags: Any) -> bool:
    return bool(tags.get(_COMPRESSION, _UNCOMPRESSED) != _UNCOMPRESSED)


def _is_separate(tags: Any) -> bool:
    """What Pillow reads as if samples of 8 bits stood there."""
    bits = tags.get(_BITS, (1,))
    separate = tags.get(_PLANES) == _SEPARATE and not _is_compressed(tags)
    return separate and len(bits) > 1 and set(bits) == {16}


def _separate(tags: Any, data: bytes, gray_range: GrayRange | None) -> Image.Image:
    """RGB from the higher bytes of three planes, as Pillow makes it of samples that alternate.

    By the range from both.

    Not turned, although the size of the image that Pillow opened is.
    """
    strips = list(zip(tags[_STRIP_OFFSETS], tags[_STRIP_LENGTHS], strict=True))
    width, height = tags[_WIDTH], tags[_HEIGHT]
    each, pixels = len(strips) // len(tags[_BITS]), width * height
    rgb = np.empty((height, width, 3), np.uint8)
    for plane in range(3):
        body = bytearray()
        for offset, length in strips[plane * each : (plane + 1) * each]:
            # Strips may overlap, and claim any length: no more is taken than the plane has.
            body += data[offset : offset + min(length, 2 * pixels - len(body))]
        if len(body) < 2 * pixels:
            raise OSError("the file ends before its pixels do")
        values = np.frombuffer(body, "<u2" if data[:2] == b"II" else ">u2", pixels)
        values = values.reshape(height, width)
        rgb[..., plane] = values >> 8 if gray_range is None else ranged(values, gray_range)
    return Image.fromarray(rgb)
