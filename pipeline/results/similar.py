"""Images that look alike, by the embeddings beside their maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.identity import ModelIdentity, base_of, references_of
from pipeline.output.rows import HELD_BY

from .best import Best
from .maps import MapReader
from .selection import Selection
from .table import SIMILARITY, read_best


def read_similar(
    folder: str, maps: MapReader, row: Any, columns: Sequence[str], *, n: int
) -> pd.DataFrame:
    """The n newest rows most similar to a row, of its category and model; see ``Results.similar``.

    Args:
        folder: the score folder.
        maps: of the same output.
        row: of the score table.
        columns: that the result has, similarity among them.
        n: how many.
    """
    own = _embedding(maps, row)
    selection = Selection(category=str(row["category"]), model=_identity(row))
    look_at, read = ["map_file", "uri"], [*HELD_BY, "map_file", "map_row"]

    def others(rows: pa.Table) -> Any:
        return pc.and_(pc.is_valid(rows["map_file"]), pc.not_equal(rows["uri"], str(row["uri"])))

    def rows_of(files: list[str], _: Best) -> Iterator[pa.Table]:
        for rows in selection.chosen(files, read, look_at=look_at, choose=others):
            found = pa.array(_similarities(maps, rows, own), from_pandas=True)
            yield rows.append_column(SIMILARITY, found)

    order = [SIMILARITY.name]
    return read_best(folder, selection, columns, rows_of, n=n, order=order, per_category=False)


def _identity(row: Any) -> ModelIdentity:
    """Rows with other references are of another model."""
    base, references = base_of(str(row["model"])), references_of(str(row["model"]))
    return ModelIdentity(base, {str(row["category"]): references} if references else {})


def _embedding(maps: MapReader, row: Any) -> NDArray[np.float32]:
    """Of unit length, [C]."""
    found: list[NDArray[np.float32]] = []
    if not pd.isna(row["map_file"]):
        position = np.array([row["map_row"]], np.int32)
        found = [each for _, each in maps.embeddings(str(row["map_file"]), position)]
    if not found:
        raise ValueError(f"{row['uri']} has no embedding; score it with --embeddings")
    embedding: NDArray[np.float32] = _unit(found[0])[0]
    return embedding


def _similarities(maps: MapReader, rows: pa.Table, own: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines of images with one of unit length [n]; NaN without an embedding."""
    similarity = np.full(len(rows), np.nan, np.float32)
    map_file = rows["map_file"].to_numpy()
    map_row = rows["map_row"].to_numpy()
    for shard in dict.fromkeys(map_file):
        here = np.flatnonzero(map_file == shard)
        for positions, embeddings in maps.embeddings(shard, map_row[here]):
            similarity[here[positions]] = _unit(embeddings) @ own
    return similarity


def _unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n, C] of exactly unit length: half precision is off by a thousandth."""
    unit: NDArray[np.float32] = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return unit
