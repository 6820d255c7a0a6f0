"""The model on one device, as scorers call it: pixels → scores and logit grids."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.images import MEAN, STD
from pipeline.models import load_adaclip

Scored = tuple[float, NDArray[np.float16]]  # of one image: score in [0, 1], logit grid [H, W]


class Predictor:
    """One copy of the model."""

    def __init__(
        self, model_arguments: dict[str, Any], *, fingerprint: str, gpus: float, num_threads: int
    ) -> None:
        """Load the model; arguments and errors are those of ``AnomalyScorer``."""
        if not gpus:
            torch.set_num_threads(max(1, min(num_threads, len(os.sched_getaffinity(0)))))
        elif gpus < 1:  # so that one actor's cache can't take the memory of its neighbours
            torch.cuda.set_per_process_memory_fraction(gpus)
        # PyTorch's default lets convolutions round fp32 to TF32, which the patch embedding feels.
        torch.backends.cudnn.allow_tf32 = False
        self._device = torch.device("cuda" if gpus else "cpu")
        self._model = load_adaclip(**model_arguments, device=self._device)
        if (found := self._model.fingerprint()) != fingerprint:
            raise ValueError(
                f"the weights changed since the run began: {found} instead of {fingerprint}"
            )
        self.image_size: int = self._model.settings.image_size
        """Side of the square images that the model takes, in pixels."""
        self._mean = torch.tensor(MEAN, device=self._device)
        self._std = torch.tensor(STD, device=self._device)

    def score(self, pixels: NDArray[np.uint8], categories: list[str]) -> list[Scored | None]:
        """Score and logit grid of each image; None where the device has no memory even for one.

        Args:
            pixels: [B, S, S, 3], S = ``image_size``; writable.
            categories: B class names.
        """
        try:
            return list(self._predict(pixels, categories))
        except torch.OutOfMemoryError:
            pass  # halved outside the handler, whose traceback holds the failed attempt's tensors
        torch.cuda.empty_cache()
        if len(pixels) == 1:
            return [None]
        half = len(pixels) // 2
        return self.score(pixels[:half], categories[:half]) + self.score(
            pixels[half:], categories[half:]
        )

    def _predict(self, pixels: NDArray[np.uint8], categories: list[str]) -> Iterator[Scored]:
        on_gpu = self._device.type == "cuda"
        host = torch.from_numpy(pixels)
        # Pinned memory is copied while the GPU computes; from any other the copy waits for it.
        uploaded = (host.pin_memory() if on_gpu else host).to(self._device, non_blocking=True)
        images = uploaded.permute(0, 3, 1, 2).float().div_(255.0)
        images.sub_(self._mean[:, None, None]).div_(self._std[:, None, None])
        prediction = self._model.predict(images, categories)
        score, grid = (
            x.to("cpu", non_blocking=True) for x in (prediction.score, prediction.logit_grid)
        )
        if on_gpu:  # the only wait of a batch
            torch.cuda.current_stream(self._device).synchronize()
        return zip(score.tolist(), grid.numpy().astype(np.float16), strict=True)
