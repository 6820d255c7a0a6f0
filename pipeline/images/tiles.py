"""Image bytes → the squares that the model sees: the whole image, or the tiles of a large one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.gray_range import GrayRange
from pipeline.tiling import WHOLE, Layout, Tiling

from .decoding import MAX_MEGAPIXELS, decode, open_header
from .frames import FRAMES
from .gray import DEEP_SHARE
from .resizing import BICUBIC, widened
from .turning import is_lying

# Pixels above which a JPEG is not decoded at full size if less is enough: Pillow takes 4 bytes for
# each. Others are, because a decoder's own reduction is another filter than the bicubic one.
HUGE = 100_000_000


class Squares(NamedTuple):
    """What the model sees of an image, and how large it was."""

    pixels: Iterator[NDArray[np.uint8]]
    """[size, size, 3] RGB of each tile, in the layout's order, made when asked for."""
    width: int
    """Original width in pixels, EXIF orientation applied."""
    height: int
    """Original height in pixels."""
    deep_share: float | None = None
    """As of ``SquareImage``."""
    frames: int | None = 1
    """As of ``SquareImage``."""


def squares(
    data: bytes,
    size: int,
    *,
    tiling: Tiling = WHOLE,
    side: int = 1,
    max_megapixels: float = MAX_MEGAPIXELS,
    gray_range: GrayRange | None = None,
    apart: bool = False,
) -> Squares:
    """Decode an image, and resize it to its tiles; a single one is what ``to_square`` gives.

    Tiles are resized row by row. A JPEG of more than ``HUGE`` pixels comes at 1/2, 1/4 or 1/8 of
    its size where that still has all pixels that the tiles have: they bound the memory.

    Args:
        data: the object's bytes.
        size: side of a tile in pixels, as the model sees it.
        tiling: which tiles.
        side: of a tile in patches.
        max_megapixels, gray_range, apart: as for ``decode``.

    Raises:
        ImageError: as ``decode``.
    """
    patch, full = size // side, _size_of_huge(data, max_megapixels)
    at_least = None
    if full is not None and (layout := tiling.layout(*full, side=side)).num_tiles > 1:
        at_least = (layout.width * patch, layout.height * patch)
    image = decode(
        data,
        max_megapixels=max_megapixels,
        at_least=at_least,
        gray_range=gray_range,
        apart=apart,
    )
    width, height = image.size if full is None else full
    layout = tiling.layout(width, height, side=side)
    share, frames = image.info.get(DEEP_SHARE), image.info.get(FRAMES, 1)
    return Squares(cut(image, layout, patch), width, height, share, frames)


def _size_of_huge(data: bytes, max_megapixels: float) -> tuple[int, int] | None:
    """Width and height, as displayed, of a JPEG that has to be reduced; None of all others."""
    if max_megapixels * 1e6 <= HUGE:
        return None
    try:
        header = open_header(data, max_megapixels)
    except Exception:
        return None  # decode tells what is wrong
    if header.format not in ("JPEG", "MPO") or header.width * header.height <= HUGE:
        return None
    return header.size[::-1] if is_lying(header) else header.size


def cut(image: Image.Image, layout: Layout, patch: int) -> Iterator[NDArray[np.uint8]]:
    """The tiles [size, size, 3] of an image in the layout's order, ``patch`` pixels to a patch."""
    scale = image.height / layout.height
    width, tile = layout.width * patch, layout.side * patch
    support = 2 * max(1.0, scale / patch) + 1  # of the filter, in rows, and those that it rounds to
    for top in layout.tops:
        # Pillow takes a box in these; less a whole number they are as exact as before.
        upper, lower = (float(np.float32(each * scale)) for each in (top, top + layout.side))
        first, last = max(0, int(upper - support)), min(image.height, int(lower + support) + 1)
        whole = (first, last) == (0, image.height)  # of which a crop would be a copy
        wide = widened(image if whole else image.crop((0, first, image.width, last)), width)
        row = (0, upper - first, wide.width, min(lower, image.height) - first)
        resized = np.asarray(wide.resize((width, tile), BICUBIC, row))
        for left in layout.lefts:
            yield np.ascontiguousarray(resized[:, left * patch : left * patch + tile])
