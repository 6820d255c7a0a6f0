"""Image bytes → upright RGB pixels → the square a model sees. Pillow and NumPy only."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.gray_range import GrayRange
from pipeline.schema import ErrorCode

from . import deep, tiff
from .apart import decode_apart
from .errors import ImageError, too_large
from .formats import Unread, unread_format
from .frames import FRAMES, count
from .gray import DEEP_SHARE, NoNumberError, is_deep, is_deep_colour, ranged
from .others import decode_other, is_read
from .png import without_large_texts
from .resizing import BICUBIC, widened
from .samples import TO_PNG, ElsewhereError, UnreadError, to_rgb
from .turning import is_lying, upright

RGB = tuple[float, float, float]

# OpenAI CLIP's preprocessing constants (github.com/openai/CLIP, clip.py), RGB order.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

# Formats whose decoders are safe on untrusted bytes; EPS, for one, would start Ghostscript.
Image.init()
_SAFE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "AVIF")
FORMATS = tuple(name for name in _SAFE if name in Image.OPEN)
MAX_MEGAPIXELS = 100.0
_pillow_limit = threading.Lock()
_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
)

Decoder = Literal["exact", "fast"]


def max_object_bytes(max_megapixels: float) -> int:
    """Bytes that no image within the pixel limit needs: 8 a pixel, as for 16-bit RGBA."""
    return int(max_megapixels * 1e6 * 8)


@dataclass(frozen=True)
class SquareImage:
    """An image as the model wants it, and how large it was."""

    pixels: NDArray[np.uint8]
    """[size, size, 3] RGB."""
    width: int
    """Original width in pixels, EXIF orientation applied."""
    height: int
    """Original height in pixels."""
    deep_share: float | None = None
    """Of an image of more than 8 bits that came without a range: the share of its own range, from 0
    to 1, that its values take. Where it is small, most of the picture's grey levels are lost."""
    frames: int | None = 1
    """Pictures in the file, of which this is the first; None where its structure doesn't tell."""


def decode(
    data: bytes,
    *,
    max_megapixels: float = MAX_MEGAPIXELS,
    at_least: int | tuple[int, int] | None = None,
    gray_range: GrayRange | None = None,
    apart: bool = False,
) -> Image.Image:
    """Decode to 8-bit RGB: first frame, EXIF orientation applied, transparency dropped.

    Of a TIFF the first page that is no thumbnail. 16-bit gray is scaled from 0..65535 to 0..255,
    what is declared to have fewer bits from their range.

    Args:
        data: the object's bytes; the format is recognised from them, not from a name.
        max_megapixels: larger images are refused from their header, before pixels are allocated.
        at_least: a JPEG may come at 1/2, 1/4 or 1/8 of its size, which takes a fraction of the time
            and memory, as long as both sides, or its width and height, have so many pixels.
        gray_range: of gray of more than 8 bits, also of signed, 32-bit and floating-point values,
            which have none of their own; images of 8 bits are what they are.
        apart: what Pillow doesn't read goes to a process of its own, which a decoder may end; for
            all callers that are no readers.

    Raises:
        ImageError: with the code ``empty``, ``not_an_image``, ``truncated``, ``too_large`` or
            ``unsupported_mode``; ``killed_reader`` if a decoder ended the process apart.
    """
    if not data:
        raise ImageError(ErrorCode.EMPTY, "the object has no bytes")
    try:
        return _by_pillow(data, max_megapixels, at_least, gray_range)
    except ImageError:
        raise
    except (NoNumberError, UnreadError) as error:
        raise ImageError(ErrorCode.UNSUPPORTED_MODE, str(error)) from None
    except MemoryError:
        raise ImageError(ErrorCode.OUT_OF_MEMORY, "no memory to decode the image") from None
    except Exception as error:  # Pillow's decoders raise whatever the damage led them to
        told = _unread(data, error)
    if apart and is_read(data):
        return decode_apart(data, max_megapixels=max_megapixels, gray_range=gray_range)
    return decode_other(data, told, max_megapixels=max_megapixels, gray_range=gray_range)


def _by_pillow(
    data: bytes,
    max_megapixels: float,
    at_least: int | tuple[int, int] | None,
    gray_range: GrayRange | None,
) -> Image.Image:
    image = open_header(data, max_megapixels)
    frames = count(image, data)
    if at_least is not None:
        sides = (at_least, at_least) if isinstance(at_least, int) else at_least
        image.draft(None, sides[::-1] if is_lying(image) else sides)
    deep_colour = is_deep_colour(image)  # once pixels are loaded, nothing tells of it
    meant = _as_meant(image, data, max_megapixels, gray_range)
    rgb = _to_rgb(upright(meant, of=image), gray_range)
    if deep_colour and gray_range is None:
        extremes = [value for band in rgb.getextrema() for value in band]  # type: ignore[union-attr]
        rgb.info[DEEP_SHARE] = (max(extremes) - min(extremes)) / 255
    rgb.info[FRAMES] = frames
    return rgb


def _unread(data: bytes, error: Exception) -> Unread:
    """What a file is that Pillow gives no pixels of, if it is not damaged.

    Raises:
        ImageError: it is damaged, or no image.
    """
    if isinstance(error, ElsewhereError):
        return Unread(str(error), TO_PNG)
    known = not isinstance(error, UnidentifiedImageError)
    if told := unread_format(data, known=known):
        return told
    if known:
        raise ImageError(ErrorCode.TRUNCATED, f"damaged image data: {error}") from None
    if data.startswith(_SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        raise ImageError(ErrorCode.TRUNCATED, "the file ends within its header") from None
    raise ImageError(ErrorCode.NOT_AN_IMAGE, "no known image format") from None


def _as_meant(
    image: Image.Image, data: bytes, max_megapixels: float, gray_range: GrayRange | None
) -> Image.Image:
    """The image, or its pixels where Pillow would give others.

    Raises:
        UnreadError: nothing gives the right ones.
        ElsewhereError: another decoder may.
    """
    ranged = gray_range is not None
    if image.format == "TIFF":
        told = tiff.refusal(image, ranged=ranged)
        if told is None and (unread := tiff.elsewhere(image, ranged=ranged)):
            raise ElsewhereError(unread)
        if told is not None:
            raise UnreadError(told)
    elif image.format == "JPEG2000":
        samples = deep.jpeg_2000(image, data, ranged=ranged)
        return image if samples is None else to_rgb(samples, gray_range)
    if ranged:
        opened = partial(open_header, data, max_megapixels)
        if (samples := deep.samples(image, data, opened)) is not None:
            return to_rgb(samples, gray_range)
    return tiff.corrected(image, data, gray_range) if image.format == "TIFF" else image


def to_square(image: Image.Image, size: int) -> SquareImage:
    """Resize to [size, size] with Pillow's bicubic filter; the aspect ratio is not kept."""
    # All versions begin with the rows of what is not taller than wide; one call takes less time.
    tall = image.height > image.width
    resized = (widened(image, size) if tall else image).resize((size, size), BICUBIC)
    share, frames = image.info.get(DEEP_SHARE), image.info.get(FRAMES, 1)
    return SquareImage(np.asarray(resized), image.width, image.height, share, frames)


def preprocess(
    image: bytes | Image.Image, size: int, mean: RGB = MEAN, std: RGB = STD
) -> NDArray[np.float32]:
    """One image as AdaCLIP's input (released code's evaluation transform).

    Args:
        image: encoded bytes, or a PIL image of any mode that ``decode`` knows.
        size: side of the square input in pixels.
        mean, std: of a model's ``pixels`` (``preprocess(image, size, *model.pixels)``); OpenAI's
            CLIP's if left out.

    Returns:
        float32 [3, size, size], RGB, normalised.

    Raises:
        ImageError: as ``decode``.
    """
    rgb = decode(image) if isinstance(image, bytes) else _to_rgb(upright(image))
    pixels = to_square(rgb, size).pixels.astype(np.float32) / 255.0
    normalised = (pixels - np.array(mean, np.float32)) / np.array(std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def open_header(data: bytes, max_megapixels: float) -> Image.Image:
    """Read the header only, and refuse an image that is too large, naming its size.

    Raises:
        ImageError: with the code ``too_large``.
        Exception: whatever Pillow raises for what is no image, or a damaged one.
    """
    limit = int(max_megapixels * 1e6)
    try:
        image = _read_header(data, limit)
        width, height = image.size
        if width * height <= limit:
            return image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        width, height = _read_header(data, None).size
        if width * height <= limit:  # something inside, such as a tile, is larger than the image
            raise
    raise too_large(width, height, max_megapixels)


def _read_header(data: bytes, max_pixels: int | None) -> Image.Image:
    with _pillow_limit:  # Pillow's own limit is one for the whole process, and names no size
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            image = Image.open(io.BytesIO(without_large_texts(data)), formats=FORMATS)
            if image.format == "TIFF":
                tiff.choose_page(image)
            return image
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _to_rgb(image: Image.Image, gray_range: GrayRange | None = None) -> Image.Image:
    if gray_range is not None and is_deep(image):
        image = Image.fromarray(ranged(np.asarray(image), gray_range))
    elif image.mode.startswith("I"):  # 16-bit gray arrives as "I;16" or, in some formats, as "I"
        values = np.asarray(image)
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        if low < 0 or high > 0xFFFF:
            told = "32-bit integers have no fixed range; give one (--gray-range)"
            raise ImageError(ErrorCode.UNSUPPORTED_MODE, told)
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
        image.info[DEEP_SHARE] = (high - low) / 0xFFFF
    elif image.mode == "F":
        told = "floating-point pixels have no fixed range; give one (--gray-range)"
        raise ImageError(ErrorCode.UNSUPPORTED_MODE, told)
    if image.mode == "RGB":  # convert would copy all pixels
        image.load()
        return image
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(ErrorCode.UNSUPPORTED_MODE, f"mode {image.mode}: {error}") from None
