"""The scorer actor: batches of pixels → scores, logit grids and what is read off the maps."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from pipeline.anomaly_map import summarize
from pipeline.images import MEAN, STD
from pipeline.models import load_adaclip
from pipeline.report.summary import peak_memory_bytes
from pipeline.schema import MANIFEST_SCHEMA, ErrorCode, scored_schema

KEPT = (*MANIFEST_SCHEMA.names, "width", "height", "fetch_s", "decode_s")


class AnomalyScorer:
    """One copy of the model on one device; called by Ray Data with batches of pixels."""

    def __init__(
        self, model_arguments: dict[str, Any], *, fingerprint: str, gpus: float, num_threads: int
    ) -> None:
        """Load the model.

        Args:
            model_arguments: of ``load_adaclip``.
            fingerprint: of the model that the run was planned with.
            gpus: share of a GPU that belongs to this actor; 0 = run on CPUs.
            num_threads: of PyTorch on CPUs.

        Raises:
            ValueError: the weights are not those of the fingerprint (any more).
        """
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
        self._image_size = self._model.settings.image_size
        self._mean = torch.tensor(MEAN, device=self._device)
        self._std = torch.tensor(STD, device=self._device)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """``schema.pixel_schema`` → ``schema.scored_schema``; rows with an error pass through."""
        started = time.monotonic()
        rows = [dict(row) for row in batch.select(KEPT).to_pylist()]
        readable = [i for i, row in enumerate(rows) if row["error"] is None]
        if readable:
            pixels = _pixels(batch.column("pixels"), self._image_size)
            categories = [rows[i]["category"] for i in readable]
            for i, result in zip(readable, self._score(pixels, categories), strict=True):
                rows[i] |= _columns(result, rows[i]["width"], rows[i]["height"])
            share = (time.monotonic() - started) / len(readable)
            for i in readable:
                rows[i]["score_s"] = share
        memory = peak_memory_bytes()
        for row in rows:
            row["scorer_memory"] = memory
        return pa.Table.from_pylist(rows, schema=scored_schema())

    def _score(
        self, pixels: NDArray[np.uint8], categories: list[str]
    ) -> list[tuple[float, NDArray[np.float16]] | None]:
        """Score and logit grid of each image; None where the device has no memory even for one."""
        try:
            return list(self._predict(pixels, categories))
        except torch.OutOfMemoryError:
            pass  # halved outside the handler, whose traceback holds the failed attempt's tensors
        torch.cuda.empty_cache()
        if len(pixels) == 1:
            return [None]
        half = len(pixels) // 2
        return self._score(pixels[:half], categories[:half]) + self._score(
            pixels[half:], categories[half:]
        )

    def _predict(
        self, pixels: NDArray[np.uint8], categories: list[str]
    ) -> Iterator[tuple[float, NDArray[np.float16]]]:
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


def _pixels(column: pa.ChunkedArray, image_size: int) -> NDArray[np.uint8]:
    """The readable images of a batch as a writable array [B, size, size, 3]."""
    images = pc.drop_null(column).combine_chunks()
    values = np.frombuffer(images.buffers()[1], dtype=np.uint8)
    values = values.reshape(-1, image_size, image_size, 3)
    return values[images.offset : images.offset + len(images)].copy()


def _columns(
    result: tuple[float, NDArray[np.float16]] | None, width: int, height: int
) -> dict[str, Any]:
    if result is None:
        message = "the device has no memory for one image of this size; lower --image-size"
        return {"error": ErrorCode.OUT_OF_MEMORY.value, "error_message": message}
    score, grid = result
    if not np.isfinite(score) or not np.isfinite(grid).all():
        message = "the model's score or map is not a finite number"
        return {"error": ErrorCode.NOT_FINITE.value, "error_message": message}
    summary = summarize(grid, width, height)
    x0, y0, x1, y1 = summary.box
    return {
        "score": score,
        "map_max": summary.map_max,
        "anomalous_area": summary.anomalous_area,
        "box_x0": x0,
        "box_y0": y0,
        "box_x1": x1,
        "box_y1": y1,
        "logit_grid": grid.ravel(),
        "grid_height": grid.shape[0],
        "grid_width": grid.shape[1],
    }
