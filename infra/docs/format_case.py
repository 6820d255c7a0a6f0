"""Building blocks of the table of formats: a picture, files of it, and what becomes of one."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pipeline.gray_range import GrayRange
from pipeline.images.extras import Extra
from pipeline.schema import ErrorCode

HEIGHT, WIDTH = 24, 40
_y, _x = np.mgrid[0:HEIGHT, 0:WIDTH]
RGB = np.stack([_x * 6, _y * 10, _x + _y], axis=-1).astype(np.uint8)
GRAY = RGB[..., 0]


def of_bits(pixels: NDArray[np.uint8], bits: int) -> NDArray[np.int64]:
    """The same picture with 0 to 2**bits - 1 as black and white."""
    most = 2**bits - 1
    return np.asarray((pixels.astype(np.int64) * most + 127) // 255, np.int64)


TWELVE, TWELVE_RGB = of_bits(GRAY, 12), of_bits(RGB, 12)
TWELVE_BITS = GrayRange(0, 4095)


class Shown(NamedTuple):
    """Pixels that come out."""

    words: str
    pixels: NDArray[Any]
    """[H, W] gray or [H, W, 3] RGB."""
    tolerance: int = 0


@dataclass(frozen=True)
class Case:
    """One file."""

    words: str
    make: Callable[[], bytes]
    plain: Shown | ErrorCode
    """What becomes of it."""
    ranged: Shown | ErrorCode
    """With ``gray_range``."""
    gray_range: GrayRange = TWELVE_BITS
    extras: Sequence[Extra] = ()
    """That it needs, with or without a range; without them it is ``unsupported_mode``."""
    ranged_extras: Sequence[Extra] = ()
    """That it needs with a range only."""
    frames: int | None = 1


PICTURE, COLOURS = Shown("the picture", GRAY), Shown("the picture", RGB)
NEARLY_BLACK = Shown("nearly black", (TWELVE + 128) // 257)
BLACK_COLOURS = Shown("nearly black", TWELVE_RGB >> 8)
REFUSED, DAMAGED = ErrorCode.UNSUPPORTED_MODE, ErrorCode.TRUNCATED


def tiff(pixels: NDArray[Any], **settings: Any) -> bytes:
    """A TIFF of one page."""
    buffer = io.BytesIO()
    settings.setdefault("photometric", "rgb" if pixels.shape[-1] == 3 else "minisblack")
    tifffile.imwrite(buffer, pixels, **settings)
    return buffer.getvalue()


def pages(*written: tuple[NDArray[Any], dict[str, Any]]) -> bytes:
    """A TIFF of several."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for pixels, settings in written:
            file.write(pixels, metadata=None, **settings)
    return buffer.getvalue()


def pillow(pixels: NDArray[Any], file_format: str, **settings: Any) -> bytes:
    """A file that Pillow writes; further frames are black."""
    frames = settings.pop("frames", 1)
    buffer, image = io.BytesIO(), Image.fromarray(pixels)
    if frames > 1:
        more = [Image.fromarray(np.full_like(pixels, i)) for i in range(1, frames)]
        settings |= {"save_all": True, "append_images": more}
    image.save(buffer, file_format, **settings)
    return buffer.getvalue()


def encoded(codec: str, pixels: NDArray[Any], **settings: Any) -> bytes:
    """A file of one of imagecodecs' encoders."""
    return bytes(getattr(imagecodecs, f"{codec}_encode")(pixels, **settings))


def with_significant_bits(png: bytes, bits: int) -> bytes:
    """A gray PNG that says of how many bits its samples were."""
    body = b"sBIT" + bytes([bits])
    return png[:33] + struct.pack(">I", 1) + body + struct.pack(">I", zlib.crc32(body)) + png[33:]


U16, RGB_16 = TWELVE.astype(np.uint16), TWELVE_RGB.astype(np.uint16)
ALPHA = np.full_like(U16, 3000)
J2K = {"level": 0, "reversible": True}
