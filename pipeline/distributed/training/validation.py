"""What the weights after an epoch make of the held-out images: losses, figures, maps to look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from pipeline.anomaly_map import render
from pipeline.evaluation import PixelHistogram, image_metrics
from pipeline.evaluation.reliability import calibration_error, fit_calibration, reliability
from pipeline.models.adaclip import Prediction

from .data import Batch

Figures = dict[str, float | None]  # fields of EpochRecord
MAX_MAPS = 500  # of a worker, in the pixel figures: some seconds an epoch
NUM_PICTURES = 4
PICTURE_SIDE = 256  # pixels
SIGMA_SHARE = 4 / 518  # of the side: the released code's filter of maps before pixel figures


class _Seen(NamedTuple):
    """One held-out image."""

    category: str
    label: int
    logit: float
    grid: NDArray[np.float32] | None
    """[h, w] logits of the map; None without a mask, or beyond ``MAX_MAPS``."""
    mask: NDArray[np.uint8] | None
    """[S, S] in packed bits."""


class Validation:
    """One worker's part of the held-out images after an epoch."""

    def __init__(self, image_size: int) -> None:
        self._size = image_size
        self._seen: list[_Seen] = []
        self.pictures: list[NDArray[np.uint8]] = []
        """Of the first abnormal images [P, 3P, 3]: the image, its mask and its map, side by side.
        The same images after every epoch."""

    def add(self, batch: Batch, found: Prediction) -> None:
        """Take a batch and what the model says of it."""
        logits, grids = found.score_logit.tolist(), found.logit_grid.float().cpu().numpy()
        maps = sum(each.grid is not None for each in self._seen)
        for i, (category, label) in enumerate(zip(batch.categories, batch.labels, strict=True)):
            grid = mask = None
            if batch.has_mask[i] and maps < MAX_MAPS:
                grid, mask, maps = grids[i], np.packbits(batch.masks[i]), maps + 1
            self._seen.append(_Seen(category, int(label), logits[i], grid, mask))
            if label and batch.has_mask[i] and len(self.pictures) < NUM_PICTURES:
                self.pictures.append(_picture(batch.pixels[i], batch.masks[i], grids[i]))

    def figures(self) -> Figures:
        """Of all workers' images together; on worker 0 only. Every worker calls it."""
        parts = [self._seen]
        if dist.is_initialized() and dist.get_world_size() > 1:
            count = dist.get_world_size()
            gathered: list[Any] | None = [None] * count if dist.get_rank() == 0 else None
            dist.gather_object(self._seen, gathered)
            if gathered is None:
                return {}
            parts = gathered
        return _figures([each for part in parts for each in part], self._size)


def _figures(seen: Sequence[_Seen], size: int) -> Figures:
    by_category: dict[str, list[_Seen]] = defaultdict(list)
    for each in seen:
        by_category[each.category].append(each)
    found = [_of_category(each, size) for each in by_category.values()]
    figures: Figures = {}
    for name in ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap"):
        known = [each[name] for each in found if not np.isnan(each[name])]
        figures[name] = float(np.mean(known)) if known else None
        figures[f"{name}_spread"] = float(np.std(known)) if known else None
    logits = np.array([each.logit for each in seen])
    labels = np.array([each.label for each in seen])
    figures["calibration_error"] = _error(logits, labels)
    if (calibration := fit_calibration(logits, labels)) is not None:
        scale, shift = calibration
        figures |= {"score_scale": scale, "score_shift": shift}
        figures["calibrated_error"] = _error(scale * logits + shift, labels)
    return figures


def _of_category(seen: Sequence[_Seen], size: int) -> dict[str, float]:
    pixels = PixelHistogram()
    for each in seen:
        if each.grid is not None and each.mask is not None:
            mask = np.unpackbits(each.mask, count=size * size).reshape(size, size)
            pixels.add(render(each.grid, size, sigma=SIGMA_SHARE * size), mask)
    labels = np.array([each.label for each in seen])
    return image_metrics(np.array([each.logit for each in seen]), labels) | pixels.metrics()


def _error(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return calibration_error(reliability(expit(logits), labels))


def _picture(
    pixels: NDArray[np.uint8], mask: NDArray[np.uint8], grid: NDArray[np.float32]
) -> NDArray[np.uint8]:
    shown = (255 * render(grid, PICTURE_SIDE)).astype(np.uint8)
    parts = [Image.fromarray(pixels), Image.fromarray(255 * mask), Image.fromarray(shown)]
    side = (PICTURE_SIDE, PICTURE_SIDE)
    return np.hstack([np.asarray(each.convert("RGB").resize(side)) for each in parts])
