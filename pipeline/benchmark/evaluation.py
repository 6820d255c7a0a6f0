"""What the pixel metrics of a set of maps and masks cost, beside the same figures by sorting.

Grids of logits and masks are made up, one after the other, so that no number of them needs memory.
The peer does what torchmetrics' exact AUROC and average precision and anomalib's AUPRO do: it holds
all pixels, sorts them once a figure, and once more for every region.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.anomaly_map import render
from pipeline.config import BenchmarkConfig
from pipeline.evaluation import PixelHistogram
from pipeline.evaluation.pixels import CONNECTED, PRO_LIMIT
from pipeline.provenance import peak_memory_bytes

from .machine import in_own_process

_log = logging.getLogger(__name__)

COUNTS = (10_000,)
PEER_MAPS = 16  # its AUPRO takes the square of their number
SIZE, PATCH, SIGMA = 518, 14, 4.0
MOST_REGIONS = 6

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


def measure_evaluation(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """A row for each number of maps; its memory is that of a process of its own."""
    results = []
    for count in config.num_images or COUNTS:
        _log.info(f"{count:,} maps")
        results.append(in_own_process(measure_maps, count) | in_own_process(measure_peer, count))
    return results


def measure_maps(count: int) -> dict[str, Any]:
    """CPU milliseconds a map of making it, and of its part in the figures; every other is good."""
    render(next(grids_and_masks(1))[0], SIZE, SIGMA)  # the first waits for BLAS
    result: dict[str, Any] = {"maps": count, "imports_bytes": peak_memory_bytes()}
    histogram, rendering, measuring = PixelHistogram(), 0.0, 0.0
    for grid, mask in grids_and_masks(count):
        start = time.process_time()
        anomaly_map = render(grid, SIZE, SIGMA)
        rendered = time.process_time()
        histogram.add(anomaly_map, mask)
        rendering += rendered - start
        measuring += time.process_time() - rendered
    start = time.process_time()
    metrics = histogram.metrics()
    measuring += time.process_time() - start
    times = {"render_ms": rendering, "measure_ms": measuring, "ms": rendering + measuring}
    result |= {name: round(1e3 * seconds / count, 2) for name, seconds in times.items()}
    return result | {"regions": histogram.num_regions, "peak_bytes": peak_memory_bytes(), **metrics}


def measure_peer(count: int) -> dict[str, Any]:
    """The figures of the first ``PEER_MAPS`` by sorting, and how far those of histograms are off.

    Returns:
        ``peer_maps``, ``peer_curves_ms`` (AUROC and AP) and ``peer_ms`` (AUPRO as well), CPU
        milliseconds a map; ``peer_times``, those of histograms on the same maps; ``difference``,
        the largest of a figure.
    """
    grids, masks = zip(*grids_and_masks(min(count, PEER_MAPS)), strict=True)
    maps = np.stack([render(grid, SIZE, SIGMA) for grid in grids])
    start = time.process_time()
    histogram = PixelHistogram()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        histogram.add(anomaly_map, mask)
    found = histogram.metrics()
    own = time.process_time() - start
    start, labels = time.process_time(), np.stack(masks)
    exact = {
        "pixel_auroc": area_below(maps.ravel(), labels.ravel(), 1.0),
        "pixel_ap": average_precision(maps.ravel(), labels.ravel()),
    }
    curves = time.process_time() - start
    exact["pixel_aupro"] = per_region_overlap(maps, labels)
    peer = time.process_time() - start
    return {
        "peer_maps": len(maps),
        "peer_curves_ms": round(1e3 * curves / len(maps), 2),
        "peer_ms": round(1e3 * peer / len(maps), 2),
        "peer_curves_times": round(curves / own, 2),
        "peer_times": round(peer / own, 2),
        "difference": max(abs(found[name] - value) for name, value in exact.items()),
    }


def grids_and_masks(count: int) -> Iterator[tuple[Map, Mask]]:
    """Logit grids [37, 37] of smooth noise, higher on the defects, and masks [518, 518] of them."""
    for number in range(count):
        rng = np.random.default_rng(number)
        mask = np.zeros((SIZE, SIZE), dtype=bool)
        for _ in range(number % 2 * int(rng.integers(1, MOST_REGIONS + 1))):
            height, width = rng.integers(8, 81, 2)
            top, left = rng.integers(0, SIZE - height), rng.integers(0, SIZE - width)
            mask[top : top + height, left : left + width] = True
        nodes = mask[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
        noise = ndimage.gaussian_filter(rng.standard_normal(nodes.shape, np.float32), 1.5)
        yield 2 * noise / noise.std() + 4 * nodes - 5, mask


def area_below(scores: Map, labels: Mask, limit: float) -> float:
    """Area under the ROC curve up to a false positive rate, divided by it."""
    false, true = _curve(scores, labels)
    false, true = false / false[-1], true / true[-1]
    ends = np.append(false[false < limit], limit)
    return (
        float(np.trapezoid(np.append(true[false < limit], np.interp(limit, false, true)), ends))
        / limit
    )


def average_precision(scores: Map, labels: Mask) -> float:
    """Sum over thresholds of precision times the rise of recall."""
    false, true = _curve(scores, labels)
    return float((np.diff(true) * true[1:] / (true[1:] + false[1:])).sum() / true[-1])


def per_region_overlap(maps: Map, masks: Mask) -> float:
    """Mean over the regions of the area under their ROC curves against all normal pixels."""
    areas = []
    for number, mask in enumerate(masks):
        regions, count = ndimage.label(mask, structure=CONNECTED)
        for region in range(1, count + 1):
            defective = np.zeros_like(masks)
            defective[number] = regions == region
            among = defective | ~masks
            areas.append(area_below(maps[among], defective[among], PRO_LIMIT))
    return float(np.mean(areas))


def _curve(scores: Map, labels: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positives from no pixel to all, at every value as threshold."""
    order = np.argsort(-scores)
    scores, labels = scores[order], labels[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    true = np.cumsum(labels, dtype=np.float64)[last]
    return np.append(0, last + 1 - true), np.append(0, true)
