"""What a small model does on labelled generated pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.anomaly_map import render
from pipeline.evaluation import PixelHistogram, image_metrics, metrics_table
from pipeline.models import AdaCLIP

from .pictures import Pictures

RELEASED_SIGMA, RELEASED_SIZE = 4.0, 518  # pixels: the released code's Gaussian filter on maps


def measure(model: AdaCLIP, pictures: Pictures) -> pd.DataFrame:
    """``metrics_table`` of labelled pictures, the average last."""
    size = pictures.images.shape[1]
    rows = []
    for number, name in enumerate(pictures.names):
        chosen = np.flatnonzero(pictures.categories == number)
        scores, pixels = [], PixelHistogram()
        for i in chosen:
            found = model.predict(pictures.whole(np.array([i])), [name])
            scores.append(found.score.item())
            sigma = RELEASED_SIGMA * size / RELEASED_SIZE
            pixels.add(render(found.logit_grid[0].numpy(), size, sigma=sigma), pictures.masks[i])
        labels = pictures.masks[chosen].any((1, 2)).astype(int)
        rows.append(
            {
                "dataset": "generated",
                "category": name,
                "model": model.fingerprint(),
                "images": len(chosen),
                "abnormal": labels.sum(),
                "without_mask": 0,
                "unusable": 0,
                **image_metrics(np.array(scores), labels),
                **pixels.metrics(),
            }
        )
    return metrics_table(rows)
