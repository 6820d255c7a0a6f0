"""Regions of an anomaly map above a threshold: boxes, areas and sub-pixel outlines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray
from scipy import ndimage

NEIGHBOURS = np.ones((3, 3), dtype=int)  # pixels that touch at a corner are one region


@dataclass(frozen=True)
class Polygon:
    """One outline with its holes.

    Points are x, y in pixels of the image, [n, 2], without a repeated last one; pixel (0, 0)
    covers [0, 1] × [0, 1], so the image spans [0, width] × [0, height].
    """

    outer: NDArray[np.float64]
    holes: tuple[NDArray[np.float64], ...] = ()

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


def find_regions(
    anomaly_map: NDArray[np.float32], threshold: float, min_area: float = 0
) -> list[Region]:
    """Connected regions of a map above a threshold, the highest peak first.

    Outlines are where the map, linear between the centres of neighbouring pixels, crosses the
    threshold; at the image's edge they follow the edge.

    Args:
        anomaly_map: [h, w], as rendered at the image's size.
        threshold: regions are where the map is **above** it.
        min_area: smaller regions, in pixels, are left out.
    """
    above = anomaly_map > threshold
    labels, _ = ndimage.label(above, structure=NEIGHBOURS)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        mask = labels[rows, columns] == number
        area = int(np.count_nonzero(mask))
        if area >= min_area:
            values = anomaly_map[rows, columns]
            box = (columns.start, rows.start, columns.stop, rows.stop)
            peak = float(values[mask].max())
            polygons = _outlines(anomaly_map, labels, number, box, threshold)
            found.append(Region(box, area, peak, polygons, mask))
    return sorted(found, key=lambda region: (-region.peak, region.box))


def _outlines(
    anomaly_map: NDArray[np.float32],
    labels: NDArray[np.integer],
    number: int,
    box: tuple[int, int, int, int],
    threshold: float,
) -> tuple[Polygon, ...]:
    """Outlines of one region, from its pixels and one more on every side."""
    height, width = labels.shape
    x0, y0, x1, y1 = box
    left, top = max(x0 - 1, 0), max(y0 - 1, 0)
    right, bottom = min(x1 + 1, width), min(y1 + 1, height)
    values = anomaly_map[top:bottom, left:right].astype(np.float64)
    # Regions that don't touch share no square of four pixels, so hiding the others moves nothing.
    other = labels[top:bottom, left:right]
    values[(other > 0) & (other != number)] = threshold - 1
    x, y = np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5
    # Half a pixel more where the region may reach the image's edge, with the edge's own values.
    edges = ((top == 0, bottom == height), (left == 0, right == width))
    values = np.pad(values, [(int(a), int(b)) for a, b in edges], mode="edge")
    y = np.concatenate([[0.0] * edges[0][0], y, [float(height)] * edges[0][1]])
    x = np.concatenate([[0.0] * edges[1][0], x, [float(width)] * edges[1][1]])
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
