"""Regions of an anomaly map above a threshold: boxes, areas and sub-pixel outlines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

from pipeline.terminal import counted

NEIGHBOURS = np.ones((3, 3), dtype=int)  # pixels that touch at a corner are one region
# Outlines are traced through at most so many points a side: maps of large images are smooth.
OUTLINE_SIDE = 1024
OUTLINE_ERROR = 0.005  # share of a region's area; where it is exceeded, more points are taken


@dataclass(frozen=True)
class Polygon:
    """One outline with its holes.

    Points are x, y in pixels of the image, [n, 2], without a repeated last one; pixel (0, 0)
    covers [0, 1] × [0, 1], so the image spans [0, width] × [0, height].
    """

    outer: NDArray[np.float64]
    holes: tuple[NDArray[np.float64], ...] = ()

    def __repr__(self) -> str:
        """How many points, not which."""
        holes = f", {counted(len(self.holes), 'hole')}" if self.holes else ""
        return f"Polygon({counted(len(self.outer), 'point')}{holes})"

    @property
    def area(self) -> float:
        """Square pixels inside the outline and outside its holes."""
        return _area(self.outer) - sum(_area(hole) for hole in self.holes)


@dataclass(frozen=True)
class Region:
    """Connected pixels whose map is above the threshold."""

    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 in pixels (x1, y1 exclusive)."""
    area: int
    """Pixels."""
    peak: float
    """Highest value of the map in it, in [0, 1]."""
    polygons: tuple[Polygon, ...]
    """Sub-pixel outlines; several where parts touch at corners only."""
    mask: NDArray[np.bool_]
    """[y1 − y0, x1 − x0], true on the region's pixels within the box."""

    def __repr__(self) -> str:
        """Without its pixels and points."""
        polygons = counted(len(self.polygons), "polygon")
        return f"Region(box={self.box}, area={self.area}, peak={self.peak:.3f}, {polygons})"


def find_regions(
    anomaly_map: NDArray[np.float32], threshold: float, min_area: float = 0
) -> list[Region]:
    """Connected regions of a map above a threshold, the highest peak first.

    Outlines are where the map, linear between the centres of neighbouring pixels, crosses the
    threshold; at the image's edge they follow the edge. Of a region wider or higher than about
    1,000 pixels, they are traced between every few pixels only, as long as their area stays within
    0.5 % of the region's; what is smaller than that step may be missing in them. Box, area, peak
    and mask are always exact.

    Args:
        anomaly_map: [h, w], as rendered at the image's size.
        threshold: regions are where the map is **above** it.
        min_area: smaller regions, in pixels, are left out.
    """
    from scipy import ndimage  # not above: 15 MB, and few who open results ask for regions

    labels, _ = ndimage.label(anomaly_map > threshold, structure=NEIGHBOURS)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        mask = labels[rows, columns] == number
        area = int(np.count_nonzero(mask))
        if area >= min_area:
            box = (columns.start, rows.start, columns.stop, rows.stop)
            peak = float(anomaly_map[rows, columns].max(where=mask, initial=-np.inf))
            polygons = _outlines(anomaly_map, labels, number, box, area, threshold)
            found.append(Region(box, area, peak, polygons, mask))
    return sorted(found, key=lambda region: (-region.peak, region.box))


def _outlines(
    anomaly_map: NDArray[np.float32],
    labels: NDArray[np.integer],
    number: int,
    box: tuple[int, int, int, int],
    area: int,
    threshold: float,
) -> tuple[Polygon, ...]:
    """Outlines of one region, from its pixels and one more on every side, or from some of them."""
    height, width = labels.shape
    x0, y0, x1, y1 = box
    rows = np.arange(max(y0 - 1, 0), min(y1 + 1, height))
    columns = np.arange(max(x0 - 1, 0), min(x1 + 1, width))
    side = OUTLINE_SIDE
    while True:
        grid = _spread(rows, side), _spread(columns, side)
        values = anomaly_map[np.ix_(*grid)].astype(np.float64)
        # At every pixel, hiding the others moves nothing: regions that don't touch share no square
        # of four pixels.
        other = labels[np.ix_(*grid)]
        values[(other > 0) & (other != number)] = threshold - 1
        polygons = _traced(values, *grid, labels.shape, threshold)
        error = abs(sum(polygon.area for polygon in polygons) - area)
        if side >= max(len(rows), len(columns)) or error <= OUTLINE_ERROR * area:
            return polygons
        side *= 2


def _spread(positions: NDArray[np.integer], most: int) -> NDArray[np.integer]:
    """At most ``most`` of [n] positions at even steps, and the last one."""
    step = -(-len(positions) // most)
    return positions if step == 1 else np.union1d(positions[::step], positions[-1:])


def _traced(
    values: NDArray[np.float64],
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
    shape: tuple[int, ...],
    threshold: float,
) -> tuple[Polygon, ...]:
    """Where values [r, c] of an image's rows [r] and columns [c] cross the threshold."""
    height, width = shape
    y, x = rows + 0.5, columns + 0.5
    # Half a pixel more where the region may reach the image's edge, with the edge's own values.
    top, bottom = int(rows[0] == 0), int(rows[-1] == height - 1)
    left, right = int(columns[0] == 0), int(columns[-1] == width - 1)
    values = np.pad(values, [(top, bottom), (left, right)], mode="edge")
    y = np.concatenate([[0.0] * top, y, [float(height)] * bottom])
    x = np.concatenate([[0.0] * left, x, [float(width)] * right])
    lines = contour_generator(x, y, values, fill_type=FillType.OuterOffset)
    polygons = []
    for points, offsets in zip(*lines.filled(threshold, np.inf), strict=True):
        rings = [points[a:b] for a, b in zip(offsets[:-1], offsets[1:] - 1, strict=True)]
        polygons.append(Polygon(rings[0], tuple(rings[1:])))
    return tuple(polygons)


def _area(ring: NDArray[np.float64]) -> float:
    """By the shoelace formula, whatever the direction."""
    x, y = (ring - ring[0]).T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
