"""Image bytes → square pixels in less time, not bit for bit: ``--decoder fast``.

Plain JPEG files go through torchvision's decoder, whose pixels are Pillow's own, and all through
PyTorch's resize of 8-bit pixels: the same filter as Pillow's (antialiased bicubic), which differs
by rounding, at most 1 of 255 grey levels where it was measured (docs/performance.md).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image
from torch import Tensor
from torchvision import io

from pipeline.gray_range import GrayRange
from pipeline.schema import ErrorCode
from pipeline.tiling import WHOLE, Tiling

from .decoding import MAX_MEGAPIXELS, decode, open_header
from .errors import ImageError
from .frames import FRAMES
from .gray import DEEP_SHARE
from .tiles import Squares

# File format and Pillow's mode of what torchvision decodes to the same pixels. Its PNG decoder ends
# the process (signal 11) on most files whose compressed pixels are damaged; of 6,000 damaged JPEGs
# none did. torchvision 0.29 calls its decoders deprecated; without them Pillow gives the same
# pixels, later.
_DECODED = {("JPEG", "RGB"), ("JPEG", "L")}


def fast_squares(
    data: bytes,
    size: int,
    *,
    tiling: Tiling = WHOLE,
    side: int = 1,
    max_megapixels: float = MAX_MEGAPIXELS,
    gray_range: GrayRange | None = None,
    apart: bool = False,
) -> Squares:
    """Decode an image, and resize it to its tiles; all as of ``pipeline.images.tiles.squares``.

    The image is resized at once, so memory is bounded by its pixels and the tiles'.
    """
    pixels, share, frames = _decoded(data, max_megapixels, gray_range, apart)
    height, width = pixels.shape[1:]
    layout, patch = tiling.layout(width, height, side=side), size // side
    resized = _resized(pixels, layout.height * patch, layout.width * patch)
    corners = ((top * patch, left * patch) for top, left in layout.starts())
    cut = (resized[y : y + size, x : x + size].contiguous().numpy() for y, x in corners)
    return Squares(cut, width, height, share, frames)


def _decoded(
    data: bytes, max_megapixels: float, gray_range: GrayRange | None, apart: bool
) -> tuple[Tensor, float | None, int | None]:
    """uint8 [3, H, W], the share of their range that deep values take, and how many frames."""
    pixels = _plain_pixels(data, max_megapixels)
    if pixels is not None:
        return pixels, None, 1
    image = decode(data, max_megapixels=max_megapixels, gray_range=gray_range, apart=apart)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return pixels, image.info.get(DEEP_SHARE), image.info.get(FRAMES, 1)


def _resized(pixels: Tensor, height: int, width: int) -> Tensor:
    """[3, H, W] → [height, width, 3]."""
    try:
        resized = F.interpolate(pixels[None], (height, width), mode="bicubic", antialias=True)
    except MemoryError:
        raise ImageError(ErrorCode.OUT_OF_MEMORY, "no memory to resize the image") from None
    return resized[0].permute(1, 2, 0)


def _plain_pixels(data: bytes, max_megapixels: float) -> Tensor | None:
    """uint8 [3, H, W], or None for what Pillow shall decode, or say what is wrong with."""
    try:
        header = open_header(data, max_megapixels)
        function = getattr(io, "decode_jpeg", None)
        plain = (header.format, header.mode) in _DECODED and not _is_turned(header)
        if function is None or not plain:
            return None
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        pixels: Tensor = function(buffer, io.ImageReadMode.RGB)
    except Exception:
        return None
    plain = pixels.dtype == torch.uint8 and pixels.shape == (3, header.height, header.width)
    return pixels if plain else None


def _is_turned(header: Image.Image) -> bool:
    return bool(header.getexif().get(ExifTags.Base.Orientation, 1) != 1)
