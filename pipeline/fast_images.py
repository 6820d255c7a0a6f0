"""Image bytes → square pixels in less time, not bit for bit: ``--decoder fast``.

Two shortcuts. A JPEG of at least four times the wanted side is decoded at 1/2, 1/4 or 1/8 by the
JPEG decoder itself, to no less than twice that side. And PyTorch's resize of 8-bit pixels takes the
place of Pillow's: the same filter (antialiased bicubic), which differs by rounding, at most 1 of
255 grey levels where it was measured (docs/performance.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .images import MAX_MEGAPIXELS, ImageError, SquareImage, decode_scaled
from .schema import ErrorCode

# Of the decoded over the wanted side. 1 saves another quarter of the time on 12 megapixels, and
# moves scores of the small model by up to 0.10 instead of 0.015 (docs/performance.md).
MARGIN = 2


def decode_square(data: bytes, size: int, *, max_megapixels: float = MAX_MEGAPIXELS) -> SquareImage:
    """Decode and resize to [size, size], whatever the aspect ratio.

    Args:
        data, max_megapixels: as for ``pipeline.images.decode``.
        size: side of the square in pixels.

    Raises:
        ImageError: as ``pipeline.images.decode``.
    """
    image, (width, height) = decode_scaled(
        data, max_megapixels=max_megapixels, at_least=MARGIN * size
    )
    try:
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        pixels = pixels.view(1, image.height, image.width, 3).permute(0, 3, 1, 2)
        resized = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True)
    except MemoryError:
        raise ImageError(ErrorCode.OUT_OF_MEMORY, "no memory to resize the image") from None
    return SquareImage(resized[0].permute(1, 2, 0).numpy(), width, height)
