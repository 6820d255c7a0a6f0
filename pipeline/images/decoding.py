"""Image bytes → upright RGB pixels → the square a model sees. Pillow and NumPy only."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from pipeline.gray_range import GrayRange
from pipeline.schema import ErrorCode

from . import tiff
from .formats import unread_format
from .gray import DEEP_SHARE, NoNumberError, is_deep, is_deep_colour, ranged
from .png import without_large_texts

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

# EXIF's number of an orientation → how to turn the image so that it stands upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTED = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")  # what tells of it

Decoder = Literal["exact", "fast"]


class ImageError(ValueError):
    """Bytes that give no pixels."""

    def __init__(
        self, code: ErrorCode, message: str, *, width: int | None = None, height: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.width, self.height = width, height


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


def decode(
    data: bytes,
    *,
    max_megapixels: float = MAX_MEGAPIXELS,
    at_least: int | tuple[int, int] | None = None,
    gray_range: GrayRange | None = None,
) -> Image.Image:
    """Decode to 8-bit RGB: first frame, EXIF orientation applied, transparency dropped.

    Of a TIFF the first page that is no thumbnail. 16-bit gray is scaled from 0..65535 to 0..255,
    gray that is declared to have fewer bits from their range.

    Args:
        data: the object's bytes; the format is recognised from them, not from a name.
        max_megapixels: larger images are refused from their header, before pixels are allocated.
        at_least: a JPEG may come at 1/2, 1/4 or 1/8 of its size, which takes a fraction of the time
            and memory, as long as both sides, or its width and height, have so many pixels.
        gray_range: of gray of more than 8 bits, also of signed, 32-bit and floating-point values,
            which have none of their own; images of 8 bits are what they are.

    Raises:
        ImageError: with the code ``empty``, ``not_an_image``, ``truncated``, ``too_large`` or
            ``unsupported_mode``.
    """
    if not data:
        raise ImageError(ErrorCode.EMPTY, "the object has no bytes")
    try:
        image = open_header(data, max_megapixels)
        if at_least is not None:
            sides = (at_least, at_least) if isinstance(at_least, int) else at_least
            image.draft(None, sides[::-1] if is_lying(image) else sides)
        deep_colour = is_deep_colour(image)  # once pixels are loaded, nothing tells of it
        rgb = _to_rgb(upright(_as_meant(image, data, gray_range), of=image), gray_range)
        if deep_colour:
            extremes = [value for band in rgb.getextrema() for value in band]  # type: ignore[union-attr]
            rgb.info[DEEP_SHARE] = (max(extremes) - min(extremes)) / 255
        return rgb
    except ImageError:
        raise
    except (NoNumberError, tiff.UnreadPageError) as error:
        raise ImageError(ErrorCode.UNSUPPORTED_MODE, str(error)) from None
    except MemoryError:
        raise ImageError(ErrorCode.OUT_OF_MEMORY, "no memory to decode the image") from None
    except Exception as error:  # Pillow's decoders raise whatever the damage led them to
        raise _refused(data, error) from None


def _refused(data: bytes, error: Exception) -> ImageError:
    """What is wrong with a file that Pillow gives no pixels of."""
    known = not isinstance(error, UnidentifiedImageError)
    if told := unread_format(data, known=known):
        return ImageError(ErrorCode.UNSUPPORTED_MODE, told)
    if known:
        return ImageError(ErrorCode.TRUNCATED, f"damaged image data: {error}")
    if data.startswith(_SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return ImageError(ErrorCode.TRUNCATED, "the file ends within its header")
    return ImageError(ErrorCode.NOT_AN_IMAGE, "no known image format")


def _as_meant(image: Image.Image, data: bytes, gray_range: GrayRange | None) -> Image.Image:
    """The image, or its pixels where Pillow would give others."""
    if gray_range is not None and is_deep_colour(image):
        raise ImageError(
            ErrorCode.UNSUPPORTED_MODE,
            "16-bit colours of which --gray-range wants all bits, and only 8 are read; leave the "
            "flag out, or convert the image to 8 bits before upload",
        )
    if image.format != "TIFF":
        return image
    if told := tiff.refusal(image, ranged=gray_range is not None):
        raise ImageError(ErrorCode.UNSUPPORTED_MODE, told)
    return tiff.corrected(image, data, gray_range)


def upright(image: Image.Image, *, of: Image.Image | None = None) -> Image.Image:
    """The image turned as its EXIF orientation says, or another's, and without what says so.

    Pillow's own function writes the EXIF anew, which fails for a value of another type than its
    tag's; only the pixels matter here.
    """
    image.load()  # a PNG's may stand behind its pixels
    turn = _TURNS.get(_orientation(of or image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    for name in _ORIENTED:
        turned.info.pop(name, None)
    return turned


def is_lying(image: Image.Image) -> bool:
    """Whether ``upright`` makes the width of an opened image its height."""
    return _orientation(image) >= 5


def _orientation(image: Image.Image) -> int:
    """EXIF's number, 0 for none: damaged EXIF costs no image."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return 0
    if isinstance(value, bytes | tuple) and len(value) == 1:  # of another type than the tag's
        value = value[0]
    return value if isinstance(value, int) else 0


def to_square(image: Image.Image, size: int) -> SquareImage:
    """Resize to [size, size] with Pillow's bicubic filter; the aspect ratio is not kept."""
    resized = image.resize((size, size), Image.Resampling.BICUBIC)
    share = image.info.get(DEEP_SHARE)
    return SquareImage(np.asarray(resized), image.width, image.height, share)


def preprocess(image: bytes | Image.Image, size: int) -> NDArray[np.float32]:
    """One image as AdaCLIP's input (released code's evaluation transform).

    Args:
        image: encoded bytes, or a PIL image of any mode that ``decode`` knows.
        size: side of the square input in pixels.

    Returns:
        float32 [3, size, size], RGB, normalised with CLIP's mean and standard deviation.

    Raises:
        ImageError: as ``decode``.
    """
    rgb = decode(image) if isinstance(image, bytes) else _to_rgb(upright(image))
    pixels = to_square(rgb, size).pixels.astype(np.float32) / 255.0
    normalised = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
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
    raise ImageError(
        ErrorCode.TOO_LARGE,
        f"{width} x {height} pixels; the limit is {max_megapixels:g} megapixels",
        width=width,
        height=height,
    )


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
