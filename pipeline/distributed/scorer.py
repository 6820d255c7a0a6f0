"""The scorer actor: batches of pixels → scores, logit grids and what is read off the maps."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.anomaly_map import Q8, Q15, dequantize, quantize, summarize_all
from pipeline.config import ModelSpec
from pipeline.output.reference_catalogue import ReferencesInUse
from pipeline.provenance import peak_memory_bytes
from pipeline.schema import MANIFEST_SCHEMA, ErrorCode, scored_schema
from pipeline.tiling import WHOLE, Tiling, version_of

if TYPE_CHECKING:
    from .predictor import Predictor, Scored

KEPT = (
    *(*MANIFEST_SCHEMA.names, "width", "height", "frames"),
    *("fetch_s", "decode_s", "deep_share", "tile"),
)
_MESSAGES = {
    ErrorCode.OUT_OF_MEMORY: "the device has no memory for one image of this size; lower "
    "--image-size",
    ErrorCode.NOT_FINITE: "the model's score or map is not a finite number",
}


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
        self._tiling, self._side = Tiling(*tiling), side
        self._clock, self._ended = threading.Lock(), 0.0
        self._predictor = self._load(
            model,
            references or ReferencesInUse(),
            fingerprint=fingerprint,
            gpus=gpus,
            num_threads=num_threads,
            embeddings=embeddings,
        )

    def _load(self, model: ModelSpec, references: ReferencesInUse, **options: Any) -> Predictor:
        # Here, because drivers name this class and need no PyTorch: 5 s and 0.8 GB of each.
        from .predictor import Predictor
        from .references.judges import Judges

        return Predictor(model, **options, judges=Judges(references))

    def __call__(self, batch: pa.Table) -> pa.Table:
        """``schema.pixel_schema`` → ``schema.scored_schema``; rows with an error pass through.

        Two threads call, so that one batch is on the device while another becomes rows.
        """
        began = time.monotonic()
        rows = batch.select(KEPT)
        columns = {name: rows[name] for name in KEPT}
        readable = np.flatnonzero(rows["error"].is_null())
        if len(readable):
            pixels = pixels_of(batch["pixels"], self._predictor.image_size)
            found = self._score(rows.take(readable), pixels)
            found["score_s"] = pa.repeat(self._seconds(began) / len(readable), len(readable))
            columns |= {name: _spread(each, readable, len(rows)) for name, each in found.items()}
            for name in ("error", "error_message"):
                columns[name] = pc.coalesce(columns[name], rows[name])
        columns["scorer_memory"] = pa.repeat(peak_memory_bytes(), len(rows))
        arrays = [
            columns[field.name].cast(field.type)
            if field.name in columns
            else pa.nulls(len(rows), field.type)
            for field in scored_schema()
        ]
        return pa.table(arrays, schema=scored_schema())

    def _score(self, rows: pa.Table, pixels: NDArray[np.uint8]) -> dict[str, pa.Array]:
        """What is new of readable images."""
        names = zip(*(rows[name].to_pylist() for name in ("uri", "etag", "tile")), strict=True)
        images = [(uri, version_of(etag, tile)) for uri, etag, tile in names]
        found = self._predictor.score(pixels, rows["category"].to_pylist(), images)
        if found is None:
            return _errors(np.full(len(rows), ErrorCode.OUT_OF_MEMORY))
        errors = np.where(found.fits, None, ErrorCode.OUT_OF_MEMORY)  # type: ignore[call-overload]
        fitting = np.flatnonzero(found.fits)
        finite = np.isfinite(found.score_logit) & np.isfinite(found.grid).all(axis=(1, 2))
        errors[fitting[~finite]] = ErrorCode.NOT_FINITE
        good, grids = fitting[finite], quantize(found.grid[finite], Q8)
        columns = _scores(found, finite) | _grids(grids)
        columns = {name: _spread(each, good, len(rows)) for name, each in columns.items()}
        width, height = (rows[name].to_numpy() for name in ("width", "height"))
        whole = np.array([self._is_whole(width[i], height[i]) for i in good], bool)
        told = read_off(grids[whole], width[good[whole]], height[good[whole]])
        for name, values in told.items():
            columns[name] = _spread(pa.array(values), good[whole], len(rows))
        return columns | _errors(errors)

    def _is_whole(self, width: int, height: int) -> bool:
        """Whether the one tile is all of an image."""
        if self._tiling.most == 1:
            return True
        return self._tiling.layout(width, height, side=self._side).num_tiles == 1

    def _seconds(self, began: float) -> float:
        """Of a batch that ends now; those of all threads add up to the time that went by."""
        with self._clock:
            began, self._ended = max(began, self._ended), time.monotonic()
            return self._ended - began


def pixels_of(column: pa.ChunkedArray, image_size: int) -> NDArray[np.uint8]:
    """The readable images of a batch as an array [B, size, size, 3], read-only."""
    images = pc.drop_null(column).combine_chunks()
    values = np.frombuffer(images.buffers()[1], dtype=np.uint8)
    values = values.reshape(-1, image_size, image_size, 3)
    return values[images.offset : images.offset + len(images)]


def read_off(
    grids: NDArray[np.int16], widths: NDArray[np.integer], heights: NDArray[np.integer]
) -> dict[str, NDArray[Any]]:
    """Columns of ``schema.scored_schema`` that tell of maps.

    Args:
        grids: [B, h, w] logits in steps of 1/256.
        widths, heights: of the original images in pixels, [B].
    """
    found = summarize_all(dequantize(grids, Q8), widths, heights)
    names = ("box_x0", "box_y0", "box_x1", "box_y1")
    return {
        "map_max": found.map_max,
        "anomalous_area": found.anomalous_area,
        **dict(zip(names, found.boxes.T, strict=True)),
    }


def _scores(found: Scored, finite: NDArray[np.bool_]) -> dict[str, pa.Array]:
    numbers = ("score", "score_logit", "zero_shot_score", "reference_score")
    columns = {name: pa.array(getattr(found, name), from_pandas=True) for name in numbers}
    columns["nearest_reference"] = pa.array(found.nearest_reference, pa.string())
    if found.embedding is not None:
        columns["embedding_q15"] = _lists(quantize(found.embedding, Q15))
    mask = pa.array(finite)
    return {name: each.filter(mask) for name, each in columns.items()}


def _grids(grids: NDArray[np.int16]) -> dict[str, pa.Array]:
    count, height, width = grids.shape
    return {
        "logit_grid_q8": _lists(grids.reshape(count, height * width)),
        "grid_height": pa.repeat(height, count),
        "grid_width": pa.repeat(width, count),
    }


def _errors(codes: NDArray[np.object_]) -> dict[str, pa.Array]:
    messages = [None if code is None else _MESSAGES[code] for code in codes]
    return {"error": pa.array(codes, pa.string()), "error_message": pa.array(messages, pa.string())}


def _lists(values: NDArray[np.int16]) -> pa.Array:
    count, length = values.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * length)
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))


def _spread(values: pa.Array, positions: NDArray[np.intp], length: int) -> pa.Array:
    """Values at some of so many rows, null at the others."""
    if len(positions) == length:
        return values
    index = np.zeros(length, np.int64)
    index[positions] = np.arange(len(positions))
    elsewhere = np.ones(length, bool)
    elsewhere[positions] = False
    return values.take(pa.array(index, mask=elsewhere))
