"""Logit grid ↔ anomaly map, and the quantities read off a map. NumPy only.

Resizing is linear and there are two classes, so a small grid of logit differences (37×37 at
518 px) holds the whole map: ``map = sigmoid(resize(grid))`` at any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

ANOMALOUS = 0.5  # abnormal more probable than normal
SAMPLES_PER_PATCH = 4  # along each axis, for the anomalous area
REGION_SHARE = 0.5  # a region reaches to half of its peak (full width at half maximum)

Size = int | tuple[int, int]


@dataclass(frozen=True)
class MapSummary:
    """What a score row says about a map."""

    map_max: float
    """Highest abnormal probability of the map, in [0, 1]."""
    anomalous_area: float
    """Share of the image, in [0, 1], that is more probably abnormal than normal."""
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 in pixels of the original image (x1, y1 exclusive): the connected region
    around the map's peak in which the map is at least half of the peak."""


def render(logit_grid: NDArray[np.floating], size: Size, sigma: float = 0.0) -> NDArray[np.float32]:
    """Anomaly map of a logit grid.

    Args:
        logit_grid: [h, w] abnormal minus normal logits.
        size: side of a square map, or (height, width), in pixels.
        sigma: standard deviation in pixels of a Gaussian filter; 4 for pixel metrics (the
            released code's evaluation), 0 for none.

    Returns:
        float32 [height, width], abnormal probability in [0, 1].
    """
    height, width = (size, size) if isinstance(size, int) else size
    anomaly_map = expit(_resize(np.asarray(logit_grid, dtype=np.float32), height, width))
    if sigma > 0:
        anomaly_map = ndimage.gaussian_filter(anomaly_map, sigma)
    return np.asarray(anomaly_map, dtype=np.float32)


def summarize(logit_grid: NDArray[np.floating], width: int, height: int) -> MapSummary:
    """Read peak, area and box off a map of an image of ``width`` × ``height`` pixels.

    Args:
        logit_grid: [h, w] abnormal minus normal logits.
    """
    grid = np.asarray(logit_grid, dtype=np.float32)
    rows, columns = grid.shape
    fine = _resize(grid, rows * SAMPLES_PER_PATCH, columns * SAMPLES_PER_PATCH)
    probability = expit(grid)
    # Interpolation never exceeds its nodes, so the map's peak is the grid's at every size.
    top, left = np.unravel_index(int(grid.argmax()), grid.shape)
    peak = float(probability[top, left])
    regions, _ = ndimage.label(probability >= REGION_SHARE * peak)
    inside = np.argwhere(regions == regions[top, left])
    (y0, x0), (y1, x1) = inside.min(axis=0), inside.max(axis=0) + 1
    box = (
        x0 * width // columns,
        y0 * height // rows,
        -(-x1 * width // columns),
        -(-y1 * height // rows),
    )
    return MapSummary(
        map_max=peak,
        anomalous_area=float((expit(fine) > ANOMALOUS).mean()),
        box=(int(box[0]), int(box[1]), int(box[2]), int(box[3])),
    )


def _resize(grid: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear resize with aligned corners, as two small matrix products."""
    rows, columns = grid.shape
    resized = _interpolation(height, rows) @ grid @ _interpolation(width, columns).T
    return resized.astype(np.float32, copy=False)


@lru_cache(maxsize=8)
def _interpolation(size: int, nodes: int) -> NDArray[np.float32]:
    """[size, nodes] weights that interpolate ``nodes`` values at ``size`` even positions."""
    positions = np.linspace(0, nodes - 1, size) if size > 1 else np.zeros(1)
    distance = np.abs(positions[:, None] - np.arange(nodes)[None])
    weights: NDArray[np.float32] = np.maximum(1 - distance, 0).astype(np.float32)
    return weights
