"""Logit grid ↔ anomaly map, and the quantities read off a map. NumPy only.

Resizing is linear and there are two classes, so a small grid of logit differences (37×37 at
518 px) holds the whole map: ``map = sigmoid(resize(grid))`` at any size.

Files hold grids as fixed-point numbers, which every reader of Parquet opens; half-precision ones
stop Spark and others. A step of 1/256 moves a map by at most 1/256 / 2 / 4, half a thousandth. The
range is ±128: the small model's logits lie within ±12, and none of AdaCLIP's beyond ±200.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLES_PER_PATCH = 4  # along each axis, for the anomalous area
STRIP = 48  # rows of a map that are smoothed at a time
REGION_SHARE = 0.5  # a region reaches to half of its peak (full width at half maximum)
Q8 = 2**8  # steps of a logit, which has 8 fractional bits; sigmoid(±17) is 0 and 1 in float32
Q15 = 2**15  # of a coordinate of a vector of unit length
_INT16 = np.iinfo(np.int16)

# Patches that share a side are neighbours; those of different images are not.
_SIDES = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
_WITHIN_AN_IMAGE = np.pad(_SIDES[None], ((1, 1), (0, 0), (0, 0)))

Size = int | tuple[int, int]


class MapSummary(NamedTuple):
    """What a score row says about a map."""

    map_max: float
    """Highest abnormal probability of the map, in [0, 1]."""
    anomalous_area: float
    """Share of the image, in [0, 1], that is more probably abnormal than normal."""
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 in pixels of the original image (x1, y1 exclusive): the connected region
    around the map's peak in which the map is at least half of the peak."""


class MapSummaries(NamedTuple):
    """``MapSummary`` of several maps."""

    map_max: NDArray[np.float32]
    """[B]"""
    anomalous_area: NDArray[np.float32]
    """[B]"""
    boxes: NDArray[np.int32]
    """[B, 4]"""


def quantize(values: NDArray[np.floating], steps: int) -> NDArray[np.int16]:
    """Values as fixed-point numbers, the nearest; what is beyond their range is its end.

    Args:
        values: finite, of any shape.
        steps: of a unit: ``Q8`` for logits, ``Q15`` for coordinates of unit vectors.
    """
    scaled: NDArray[np.float32] = np.rint(np.multiply(values, steps, dtype=np.float32))
    return scaled.clip(_INT16.min, _INT16.max).astype(np.int16)


def dequantize(values: NDArray[np.int16], steps: int) -> NDArray[np.float32]:
    """What ``quantize`` stored."""
    return values.astype(np.float32) / np.float32(steps)


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
    anomaly_map = _sigmoid(_resize(np.asarray(logit_grid, dtype=np.float32), height, width))
    return _smoothed(anomaly_map, sigma) if sigma > 0 else anomaly_map


def render_logits(
    logit_grid: NDArray[np.floating], size: Size, sigma: float = 0.0
) -> NDArray[np.float32]:
    """The same map before the sigmoid, and filtered there: where probabilities round to 0 or 1, one
    pixel is still more abnormal than another.

    Args:
        logit_grid, size, sigma: as for ``render``.

    Returns:
        float32 [height, width], abnormal minus normal logits.
    """
    height, width = (size, size) if isinstance(size, int) else size
    logits = _resize(np.asarray(logit_grid, dtype=np.float32), height, width)
    return _smoothed(logits, sigma) if sigma > 0 else logits


def summarize(logit_grid: NDArray[np.floating], width: int, height: int) -> MapSummary:
    """Read peak, area and box off a map of an image of ``width`` × ``height`` pixels.

    Args:
        logit_grid: [h, w] abnormal minus normal logits.
    """
    found = summarize_all(np.asarray(logit_grid)[None], np.array([width]), np.array([height]))
    x0, y0, x1, y1 = found.boxes[0].tolist()
    return MapSummary(float(found.map_max[0]), float(found.anomalous_area[0]), (x0, y0, x1, y1))


def summarize_all(
    logit_grids: NDArray[np.floating], widths: NDArray[np.integer], heights: NDArray[np.integer]
) -> MapSummaries:
    """``summarize`` for several images at once.

    Args:
        logit_grids: [B, h, w] abnormal minus normal logits.
        widths, heights: of the original images in pixels, [B].
    """
    from scipy import ndimage  # not above: 15 MB of drivers, which keep maps and read none
    from scipy.special import expit

    grids = np.asarray(logit_grids, dtype=np.float32)
    count, rows, columns = grids.shape
    fine = _resize(grids, rows * SAMPLES_PER_PATCH, columns * SAMPLES_PER_PATCH)
    probability = expit(grids)
    # Interpolation never exceeds its nodes, so the map's peak is the grid's at every size.
    each, flat = np.arange(count), (count, rows * columns)
    places = grids.reshape(flat).argmax(axis=1)
    peak = probability.reshape(flat)[each, places]
    regions, _ = ndimage.label(
        probability >= REGION_SHARE * peak[:, None, None], structure=_WITHIN_AN_IMAGE
    )
    inside = regions == regions.reshape(flat)[each, places][:, None, None]
    x0, x1 = _extent(inside.any(axis=1), np.asarray(widths, np.int64))
    y0, y1 = _extent(inside.any(axis=2), np.asarray(heights, np.int64))
    return MapSummaries(
        map_max=peak,
        # sigmoid(x) > 1/2 where x > 0
        anomalous_area=(fine > 0).mean(axis=(1, 2), dtype=np.float32),
        boxes=np.stack([x0, y0, x1, y1], axis=1).astype(np.int32),
    )


def _extent(
    inside: NDArray[np.bool_], pixels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last of the patches [B, n] along an axis, as pixels [B] of it; exclusive."""
    patches = inside.shape[1]
    first, last = inside.argmax(axis=1), patches - inside[:, ::-1].argmax(axis=1)
    return first * pixels // patches, -(-last * pixels // patches)


def _resize(grid: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear resize of [..., h, w] with aligned corners, as two small matrix products."""
    rows, columns = grid.shape[-2:]
    resized = _interpolation(height, rows) @ grid @ _interpolation(width, columns).T
    return resized.astype(np.float32, copy=False)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """In place: NumPy's exponential takes several values at a time, SciPy's ``expit`` one."""
    with np.errstate(over="ignore"):  # of exp(88.8) and more, whose sigmoid is 0
        np.exp(np.negative(logits, out=logits), out=logits)
    logits += 1
    return np.reciprocal(logits, out=logits)


def _smoothed(anomaly_map: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """``scipy.ndimage.gaussian_filter``: mirrored edges, float64 sums, float32 after each axis."""
    return _smoothed_across(_smoothed_across(anomaly_map, sigma), sigma)


def _smoothed_across(anomaly_map: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """[H, W] → [W, H]: smoothed along the first axis, and transposed.

    A strip of the result is a small matrix times the rows of the map from a margin above it to a
    margin below, and BLAS multiplies several numbers at a time where SciPy's filter does one.
    """
    length, width = anomaly_map.shape
    weights = _strip_weights(sigma)
    margin = (weights.shape[1] - STRIP) // 2
    mirrored = np.pad(np.arange(length), margin, mode="symmetric")
    smoothed = np.empty((width, length), dtype=np.float32)
    for start in range(0, length, STRIP):
        rows = min(STRIP, length - start)
        reach = rows + 2 * margin
        around = anomaly_map[mirrored[start : start + reach]].astype(np.float64)
        smoothed[:, start : start + rows] = around.T @ weights[:rows, :reach].T
    return smoothed


@lru_cache(maxsize=8)
def _strip_weights(sigma: float) -> NDArray[np.float64]:
    """[STRIP, margin + STRIP + margin] weights of a Gaussian filter, cut at 4 sigma as SciPy's."""
    from scipy import ndimage

    margin = int(4 * sigma + 0.5)
    impulses = np.eye(STRIP + 2 * margin)
    filtered = ndimage.gaussian_filter1d(impulses, sigma, axis=0, radius=margin)
    weights: NDArray[np.float64] = filtered[margin : margin + STRIP]
    return weights


@lru_cache(maxsize=8)
def _interpolation(size: int, nodes: int) -> NDArray[np.float32]:
    """[size, nodes] weights that interpolate ``nodes`` values at ``size`` even positions."""
    positions = np.linspace(0, nodes - 1, size) if size > 1 else np.zeros(1)
    distance = np.abs(positions[:, None] - np.arange(nodes)[None])
    weights: NDArray[np.float32] = np.maximum(1 - distance, 0).astype(np.float32)
    return weights
