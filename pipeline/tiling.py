"""How a large image is cut into tiles, and what of each becomes the map of the whole.

A tile is what the model sees at once. All lie on one grid of patches over the whole image, so a map
is put together without blending: each patch is taken from the tile in which it is most central.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

# Tiles share at least an eighth of their side, 4 of 37 patches, so a patch that counts lies two or
# more from the edge of its tile, unless that is the image's.
OVERLAP = 8

Number = TypeVar("Number", bound=np.number[Any])


@dataclass(frozen=True)
class Layout:
    """The tiles of one image, row by row, in patches."""

    side: int
    """Of a tile, which is square."""
    tops: tuple[int, ...]
    """First patch of each row of tiles."""
    lefts: tuple[int, ...]
    """First patch of each column of tiles."""

    @property
    def height(self) -> int:
        """Patches of the whole image from top to bottom."""
        return self.tops[-1] + self.side

    @property
    def width(self) -> int:
        """Patches of the whole image from left to right."""
        return self.lefts[-1] + self.side

    @property
    def num_tiles(self) -> int:
        """At least 1."""
        return len(self.tops) * len(self.lefts)

    def starts(self) -> Iterator[tuple[int, int]]:
        """Top and left of each tile."""
        return ((top, left) for top in self.tops for left in self.lefts)

    def stitch(self, grids: Sequence[NDArray[Number]]) -> NDArray[Number]:
        """One grid [height, width] from those of the tiles [side, side], in their order."""
        row, y = _owners(self.tops, self.side)
        column, x = _owners(self.lefts, self.side)
        tile = row[:, None] * len(self.lefts) + column[None]
        whole: NDArray[Number] = np.stack(grids)[tile, y[:, None], x[None]]
        return whole


class Tiling(NamedTuple):
    """One rule for all images of a run, which is part of its model's name."""

    most: int
    """Tiles along each side of an image, at most."""
    size: int
    """Pixels of the original that a tile covers along each side, unless ``most`` is too few."""

    @property
    def suffix(self) -> str:
        """What it adds to the fingerprint of a model; nothing where images are seen whole."""
        return "" if self.most == 1 else f"-tiles{self.most}of{self.size}"

    def layout(self, width: int, height: int, *, side: int) -> Layout:
        """The tiles of an image.

        Args:
            width, height: of the image in pixels.
            side: of a tile in patches.
        """
        return Layout(side, self._starts(height, side), self._starts(width, side))

    def _starts(self, pixels: int, side: int) -> tuple[int, ...]:
        if self.most == 1:
            return (0,)
        patches = round(pixels / self.size * side)
        overlap = max(1, side // OVERLAP)
        number = min(self.most, math.ceil((patches - overlap) / (side - overlap)))
        if number <= 1:
            return (0,)
        patches = min(patches, number * side - (number - 1) * overlap)
        return tuple(round(i * (patches - side) / (number - 1)) for i in range(number))


def version_of(etag: str, tile: int) -> str:
    """Names a tile beside its image's uri; the first one as the image."""
    return f"{etag}#tile{tile}" if tile else etag


def without_tile(version: str) -> str:
    """The image's ETag behind ``version_of``."""
    return re.sub(r"#tile\d+$", "", version)


WHOLE = Tiling(1, 1)
"""Every image is one tile."""


def _owners(starts: tuple[int, ...], side: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Along an axis, the tile of each patch, and the patch's place in that tile."""
    places = np.arange(starts[-1] + side)[:, None] - np.array(starts)  # [patches, tiles]
    owner = np.abs(places - (side - 1) / 2).argmin(axis=1)
    return owner, places[np.arange(len(places)), owner]
