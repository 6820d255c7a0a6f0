"""Tiles of large images → one row each, as if the model had seen the image at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.anomaly_map import Q15, quantize
from pipeline.schema import TIMINGS, scored_schema
from pipeline.tiling import Layout, Tiling

from .reading_log import Row
from .scorer import read_off

GRID = "logit_grid_q8"


class Stitcher:
    """Collects the tiles of images, which come in any order and from several scorers.

    What waits for its other tiles are scores and small grids, of the images that readers and
    scorers have in hand.
    """

    def __init__(self, tiling: Tiling, side: int) -> None:
        """Hold nothing yet.

        Args:
            tiling: by which images were cut.
            side: of a tile in patches.
        """
        self._tiling, self._side = tiling, side
        self._waiting: dict[str, dict[int, pa.Table]] = {}
        self._given_up: set[str] = set()

    def add(self, rows: pa.Table) -> pa.Table:
        """Take rows of tiles (``schema.scored_schema``); gives those of images that are complete.

        Images of one tile pass as they are, as do rows without pixels. An image whose reader ran
        out of memory between two of its tiles is an error, whatever came of the others.
        """
        if self._tiling.most == 1:
            return rows
        alone, stitched = [], []
        columns = [rows[name].to_pylist() for name in ("image_id", "tile", "width", "height")]
        for position, (image, tile, width, height) in enumerate(zip(*columns, strict=True)):
            if image in self._given_up:
                continue
            if tile is None:
                if width is not None:  # it was being cut
                    self._given_up.add(image)
                    self._waiting.pop(image, None)
                alone.append(position)
                continue
            layout = self._tiling.layout(width, height, side=self._side)
            if layout.num_tiles == 1:
                alone.append(position)
                continue
            tiles = self._waiting.setdefault(image, {})
            tiles[tile] = rows.slice(position, 1)
            if len(tiles) == layout.num_tiles:
                del self._waiting[image]
                stitched.append(_stitched([tiles[each] for each in sorted(tiles)], layout))
        whole = rows.take(pa.array(alone, pa.int64()))
        return pa.concat_tables([whole, pa.Table.from_pylist(stitched, schema=scored_schema())])


def _stitched(tiles: Sequence[pa.Table], layout: Layout) -> Row:
    """One row of scores and map from those of all tiles; an error of one is the image's."""
    parts: list[Row] = [tile.drop_columns([GRID]).to_pylist()[0] for tile in tiles]
    for part in parts:
        if part["error"] is not None:
            return part
    strongest = max(parts, key=lambda part: float(part["score_logit"]))
    side = (layout.side, layout.side)
    grid = layout.stitch([tile[GRID][0].values.to_numpy().reshape(side) for tile in tiles])
    size = (np.array([strongest[name]]) for name in ("width", "height"))
    about_map = {name: values[0] for name, values in read_off(grid[None], *size).items()}
    about_map |= {GRID: grid.ravel(), "grid_height": layout.height, "grid_width": layout.width}
    return (
        strongest
        | about_map
        | {
            **{name: _highest(parts, name) for name in ("zero_shot_score", "reference_score")},
            **{name: sum(part[name] for part in parts) for name in TIMINGS},
            "embedding_q15": _mean([part["embedding_q15"] for part in parts]),
            "scorer_memory": max(part["scorer_memory"] for part in parts),
        }
    )


def _highest(parts: Sequence[Row], name: str) -> float | None:
    return max((part[name] for part in parts if part[name] is not None), default=None)


def _mean(embeddings: Sequence[list[int] | None]) -> NDArray[np.int16] | None:
    """Of unit length."""
    if embeddings[0] is None:
        return None
    mean = np.array(embeddings, np.float32).mean(axis=0)
    return quantize(mean / np.linalg.norm(mean), Q15)
