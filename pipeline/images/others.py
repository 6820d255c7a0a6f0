"""Formats that Pillow doesn't read, by the decoders of the extras where these are installed."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from pipeline.gray_range import GrayRange
from pipeline.schema import ErrorCode

from . import codestreams, dicom, scientific
from .errors import ImageError, too_large
from .extras import MissingExtraError
from .formats import Unread
from .frames import FRAMES, tiff_pages
from .gray import NoNumberError
from .samples import Samples, TooLargeError, UnreadError, to_rgb
from .turning import turned

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
Reader = Callable[[], Samples]


def decode_other(
    data: bytes, told: Unread, *, max_megapixels: float, gray_range: GrayRange | None
) -> Image.Image:
    """8-bit RGB, upright, of a file that Pillow does not read.

    Args:
        data: the file.
        told: what it is.
        max_megapixels, gray_range: as for ``decode``.

    Raises:
        ImageError: as ``decode``; for an extra that is not installed, ``unsupported_mode`` with
            how to install it.
    """
    reader = _reader(data, int(max_megapixels * 1e6), gray_range)
    if reader is None:
        raise ImageError(ErrorCode.UNSUPPORTED_MODE, told.unread)
    try:
        samples = reader()
        image = turned(to_rgb(samples, gray_range), samples.orientation)
    except MissingExtraError as error:
        raise ImageError(ErrorCode.UNSUPPORTED_MODE, told.needing(str(error))) from None
    except (UnreadError, NoNumberError) as error:
        raise ImageError(ErrorCode.UNSUPPORTED_MODE, str(error)) from None
    except dicom.NoPixelsError as error:
        raise ImageError(ErrorCode.NOT_AN_IMAGE, str(error)) from None
    except TooLargeError as error:
        raise too_large(error.width, error.height, max_megapixels, error.depth) from None
    except MemoryError:
        raise ImageError(ErrorCode.OUT_OF_MEMORY, "no memory to decode the image") from None
    except Exception as error:  # without its words, which may quote a patient's name
        kind = type(error).__name__
        raise ImageError(ErrorCode.TRUNCATED, f"{told.what} with damaged data ({kind})") from None
    image.info[FRAMES] = _frames(data, samples)
    return image


def is_read(data: bytes) -> bool:
    """Whether some decoder of an extra may know the bytes."""
    return _reader(data, 0, None) is not None


def _reader(data: bytes, limit: int, gray_range: GrayRange | None) -> Reader | None:
    if dicom.is_dicom(data):
        return lambda: dicom.read(data, limit, gray_range)
    if data.startswith(_TIFF):
        return lambda: scientific.read(data, limit)
    if codestreams.is_codestream(data):
        return lambda: codestreams.read(data, limit)
    return None


def _frames(data: bytes, samples: Samples) -> int | None:
    try:
        return tiff_pages(data) if data.startswith(_TIFF) and samples.frames else samples.frames
    except Exception:  # counting costs no image
        return None
