"""Maps and masks for metric tests, and slow, exact metrics to compare with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]


def blurred_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sigma: float
) -> NDArray[np.float64]:
    """Smooth noise of standard deviation 1, image by image."""
    noise = rng.normal(size=shape)
    noise = ndimage.gaussian_filter(noise, (0, sigma, sigma), mode="wrap")
    return np.asarray(noise / noise.std())


def maps_and_masks(
    seed: int, *, contrast: float, offset: float = 0.0, num_images: int = 20, size: int = 128
) -> tuple[Maps, Masks]:
    """float32 maps in [0, 1] and masks with several regions, every third one empty.

    Args:
        contrast: standard deviation of the logits; 20 crowds the values at 0 and 1.
        offset: mean of the logits.
    """
    rng = np.random.default_rng(seed)
    shape = (num_images, size, size)
    masks = blurred_noise(rng, shape, size / 20) > 1.5
    masks[::3] = False
    logits = contrast * (blurred_noise(rng, shape, size / 16) + masks) + offset
    maps = ndimage.gaussian_filter(expit(logits).astype(np.float32), (0, 2, 2))
    return maps, masks


def max_f1(labels: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """From scikit-learn's precisions and recalls, as AdaCLIP's released code computes it."""
    precision, recall, _ = precision_recall_curve(labels, scores)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return float(f1.max())


def aupro(maps: Maps, masks: Masks, limit: float = 0.3) -> float:
    """MVTec's per-region overlap, with every value of the maps as a threshold."""
    regions = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [anomaly_map[labels == i + 1] for i in range(count)]
    thresholds = np.unique(maps)[::-1]
    fpr = np.concatenate([[0], _share_above(maps[~masks], thresholds)])
    pro = np.concatenate([[0], _mean_share_above(regions, thresholds)])
    last = int((fpr <= limit).sum())
    x, y = fpr[:last], pro[:last]
    if last < len(fpr):
        slope = (pro[last] - pro[last - 1]) / (fpr[last] - fpr[last - 1])
        x = np.append(x, limit)
        y = np.append(y, pro[last - 1] + slope * (limit - fpr[last - 1]))
    return float(np.trapezoid(y, x) / limit)


def _mean_share_above(regions: list[Maps], thresholds: Maps) -> NDArray[np.float64]:
    """Mean over the regions of the share of their values that are at least each threshold."""
    values = np.concatenate(regions)
    weights = np.concatenate([np.full(len(region), 1 / len(region)) for region in regions])
    order = np.argsort(values)
    below = np.concatenate([[0], np.cumsum(weights[order])]) / len(regions)
    return np.asarray(1 - below[np.searchsorted(values[order], thresholds, "left")])


def pixel_metrics(maps: Maps, masks: Masks) -> dict[str, float]:
    """All pixel metrics, exactly."""
    values, labels = maps.ravel(), masks.ravel()
    return {
        "pixel_auroc": float(roc_auc_score(labels, values)),
        "pixel_ap": float(average_precision_score(labels, values)),
        "pixel_max_f1": max_f1(labels, values),
        "pixel_aupro": aupro(maps, masks),
    }


def _share_above(values: Maps, thresholds: Maps) -> NDArray[np.float64]:
    """Share of the values that are at least each threshold."""
    ordered = np.sort(values)
    return np.asarray(1 - np.searchsorted(ordered, thresholds, "left") / len(ordered))
