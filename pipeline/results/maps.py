"""Logit grids from map shards, and maps as colours over an image."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.anomaly_map import Q8, Q15, dequantize
from pipeline.output.layout import MAPS
from pipeline.output.map_shards import columns_of, of_today
from pipeline.storage import arrow_filesystem

GRID_COLUMNS = ["logit_grid_q8", "grid_height", "grid_width"]
OPEN_SHARDS = 8  # footers kept while maps are read one by one

# Blue over green and yellow to red: points of the "turbo" colour map (A. Mikhailov, Google, 2019).
_TURBO = ((48, 18, 59), (65, 125, 237), (29, 229, 181), (164, 252, 60), (251, 128, 34), (122, 4, 3))


class MapReader:
    """Reads single maps, and embeddings, from the shards of an output."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._shards: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        # The last row group read: rows of one shard are mostly asked for one after the other.
        self._group: tuple[tuple[str, int], pa.Table] | None = None

    def grid(self, shard: str, row: int) -> NDArray[np.float32]:
        """The logit grid [h, w] in a row of a shard.

        Raises:
            ValueError: the name is no shard of this output, or the shard has no such row.
            FileNotFoundError: the shard is gone, after a compaction.
        """
        file = self._shard(shard)
        group, offset = _locate(file, row)
        if self._group is None or self._group[0] != (shard, group):
            self._group = (shard, group), _read(file, group, GRID_COLUMNS)
        grid, height, width = (self._group[1][name][offset] for name in GRID_COLUMNS)
        values = dequantize(grid.values.to_numpy(), Q8)
        return values.reshape(height.as_py(), width.as_py())

    def embeddings(
        self, shard: str, rows: NDArray[np.int32]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Embeddings in some rows of a shard, a row group at a time.

        Args:
            shard: its name.
            rows: [n], in any order.

        Yields:
            Positions in ``rows`` [m] of those that have an embedding, and the embeddings [m, C].

        Raises:
            ValueError, FileNotFoundError: as of ``grid``.
        """
        file = self._shard(shard)
        order, first = np.argsort(rows, kind="stable"), 0
        for group in range(file.num_row_groups):
            length = file.metadata.row_group(group).num_rows
            start, end = np.searchsorted(rows, [first, first + length], sorter=order)
            if start < end:
                column = _read(file, group, ["embedding_q15"])["embedding_q15"]
                found = column.take(pa.array(rows[order[start:end]] - first)).combine_chunks()
                there = found.is_valid().to_numpy(zero_copy_only=False)
                if there.any():
                    values = found.drop_null().flatten().to_numpy(zero_copy_only=False)
                    values = dequantize(values, Q15).reshape(there.sum(), -1)
                    yield order[start:end][there], values
            first += length

    def _shard(self, name: str) -> pq.ParquetFile:
        if not re.fullmatch(rf"{MAPS}/[\w=./-]+\.parquet", name) or ".." in name:
            raise ValueError(f"map_file {name!r} is not a shard of this output")
        if name not in self._shards:
            filesystem, path = arrow_filesystem(f"{self._output}/{name}")
            try:
                # One request for a row group instead of one for each of its columns.
                shard = pq.ParquetFile(path, filesystem=filesystem, pre_buffer=True)
            except FileNotFoundError as error:
                message = f"{name} was compacted and vacuumed away since; read scores() again"
                raise FileNotFoundError(message) from error
            self._shards[name] = shard
            if len(self._shards) > OPEN_SHARDS:
                self._shards.popitem(last=False)
        return self._shards[name]


def overlaid(
    image: Image.Image, anomaly_map: NDArray[np.float32], box: list[float], opacity: float
) -> Image.Image:
    """An image with its map in colours, the stronger the more abnormal, and a box.

    Args:
        image: RGB.
        anomaly_map: [h, w] in [0, 1], of the image's size.
        box: x0, y0, x1, y1 in the image's pixels.
        opacity: of the colour where the map is 1, in [0, 1].
    """
    drawn = coloured(image, anomaly_map, opacity)
    width = max(1, drawn.width // 200)
    ImageDraw.Draw(drawn).rectangle(box, outline=(255, 255, 255), width=width)
    return drawn


def coloured(image: Image.Image, anomaly_map: NDArray[np.float32], opacity: float) -> Image.Image:
    """``overlaid`` without a box."""
    strength = opacity * anomaly_map[..., None]
    mixed = np.asarray(image) * (1 - strength) + _colour(anomaly_map) * strength
    return Image.fromarray(mixed.astype(np.uint8))


def _read(file: pq.ParquetFile, group: int, columns: Sequence[str]) -> pa.Table:
    """Columns of ``schema.MAP_SCHEMA`` of a row group of a shard of any version."""
    there = columns_of(file.schema_arrow.names, columns)
    return of_today(file.read_row_group(group, columns=there))


def _locate(file: pq.ParquetFile, row: int) -> tuple[int, int]:
    """Row group and offset in it of a row."""
    for group in range(file.num_row_groups):
        length = file.metadata.row_group(group).num_rows
        if row < length:
            return group, row
        row -= length
    raise ValueError("map_row is beyond the end of its shard; the output is damaged")


def _colour(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """[h, w] in [0, 1] → [h, w, 3] in [0, 255]."""
    stops = np.linspace(0, 1, len(_TURBO))
    channels = [np.interp(values, stops, [c[i] for c in _TURBO]) for i in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)
