"""The scorer actor: batches of pixels → scores, logit grids and what is read off the maps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.anomaly_map import summarize
from pipeline.config import ModelSpec
from pipeline.output.reference_catalogue import ReferencesInUse
from pipeline.provenance import peak_memory_bytes
from pipeline.schema import MANIFEST_SCHEMA, ErrorCode, scored_schema
from pipeline.tiling import WHOLE, Tiling, version_of

if TYPE_CHECKING:
    from .predictor import Scored

KEPT = (
    *(*MANIFEST_SCHEMA.names, "width", "height", "frames"),
    *("fetch_s", "decode_s", "deep_share", "tile"),
)


class AnomalyScorer:
    """One copy of the model on one device; called by Ray Data with batches of pixels."""

    def __init__(
        self,
        model: ModelSpec,
        *,
        fingerprint: str,
        gpus: float,
        num_threads: int,
        references: ReferencesInUse | None = None,
        embeddings: bool = False,
        tiling: tuple[int, int] = WHOLE,
        side: int = 1,
    ) -> None:
        """Load the model.

        Args:
            model: which.
            fingerprint: of the model that the run was planned with.
            gpus: share of a GPU that belongs to this actor; 0 = run on CPUs.
            num_threads: of PyTorch on CPUs.
            references: what images are compared with.
            embeddings: give the class embedding of each image.
            tiling, side: as of ``read_images``; what is read off a map waits for all its tiles.

        Raises:
            ValueError: the weights are not those of the fingerprint (any more).
        """
        # Here, because drivers name this class and need no PyTorch: 5 s and 0.8 GB of each.
        from .predictor import Predictor
        from .references.judges import Judges

        self._tiling, self._side = Tiling(*tiling), side
        self._predictor = Predictor(
            model,
            fingerprint=fingerprint,
            gpus=gpus,
            num_threads=num_threads,
            judges=Judges(references or ReferencesInUse()),
            embeddings=embeddings,
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """``schema.pixel_schema`` → ``schema.scored_schema``; rows with an error pass through."""
        started = time.monotonic()
        rows = [dict(row) for row in batch.select(KEPT).to_pylist()]
        readable = [i for i, row in enumerate(rows) if row["error"] is None]
        if readable:
            pixels = pixels_of(batch.column("pixels"), self._predictor.image_size)
            categories = [rows[i]["category"] for i in readable]
            images = [
                (rows[i]["uri"], version_of(rows[i]["etag"], rows[i]["tile"])) for i in readable
            ]
            results = self._predictor.score(pixels, categories, images)
            for i, result in zip(readable, results, strict=True):
                size = (rows[i]["width"], rows[i]["height"])
                alone = self._tiling.layout(*size, side=self._side).num_tiles == 1
                rows[i] |= _columns(result, *size, alone=alone)
            share = (time.monotonic() - started) / len(readable)
            for i in readable:
                rows[i]["score_s"] = share
        memory = peak_memory_bytes()
        for row in rows:
            row["scorer_memory"] = memory
        return pa.Table.from_pylist(rows, schema=scored_schema())


def pixels_of(column: pa.ChunkedArray, image_size: int) -> NDArray[np.uint8]:
    """The readable images of a batch as a writable array [B, size, size, 3]."""
    images = pc.drop_null(column).combine_chunks()
    values = np.frombuffer(images.buffers()[1], dtype=np.uint8)
    values = values.reshape(-1, image_size, image_size, 3)
    return values[images.offset : images.offset + len(images)].copy()


def _columns(result: Scored | None, width: int, height: int, *, alone: bool) -> dict[str, Any]:
    if result is None:
        message = "the device has no memory for one image of this size; lower --image-size"
        return {"error": ErrorCode.OUT_OF_MEMORY.value, "error_message": message}
    if not np.isfinite(result.score_logit) or not np.isfinite(result.grid).all():
        message = "the model's score or map is not a finite number"
        return {"error": ErrorCode.NOT_FINITE.value, "error_message": message}
    told = ("score", "score_logit", "zero_shot_score", "reference_score", "nearest_reference")
    given = {name: getattr(result, name) for name in (*told, "embedding")}
    return given | (map_columns(result.grid, width, height) if alone else _grid(result.grid))


def map_columns(grid: NDArray[np.floating], width: int, height: int) -> dict[str, Any]:
    """Columns of ``schema.scored_schema`` that tell of a map.

    Args:
        grid: [h, w] logits.
        width, height: of the original image in pixels.
    """
    summary = summarize(grid, width, height)
    x0, y0, x1, y1 = summary.box
    return {
        "map_max": summary.map_max,
        "anomalous_area": summary.anomalous_area,
        "box_x0": x0,
        "box_y0": y0,
        "box_x1": x1,
        "box_y1": y1,
        **_grid(grid),
    }


def _grid(grid: NDArray[np.floating]) -> dict[str, Any]:
    height, width = grid.shape
    return {"logit_grid": grid.ravel(), "grid_height": height, "grid_width": width}
