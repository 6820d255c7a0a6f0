"""What a person opens: the score table, anomaly maps and overlays of an output folder.

Needs neither Ray nor torch.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .anomaly_map import Size, render
from .images import decode
from .schema import FINAL_ERRORS, SCORE_SCHEMA
from .snapshot import read_scores, score_dataset
from .storage import absolute, arrow_filesystem, read_object

_COLUMNS = SCORE_SCHEMA.append(pa.field("scan_date", pa.string()))
_LATEST_BY = ("image_id", "uri", "model", "category", "error", "scored_at")
OPEN_SHARDS = 8  # footers kept while maps are read one by one

# Blue over green and yellow to red: points of the "turbo" colour map (A. Mikhailov, Google, 2019).
_TURBO = ((48, 18, 59), (65, 125, 237), (29, 229, 181), (164, 252, 60), (251, 128, 34), (122, 4, 3))


class Results:
    """An output folder of the scoring job; made by ``open_results``."""

    def __init__(self, uri: str) -> None:
        self.uri = absolute(uri)
        self._shards: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        # The last row group read: rows of one shard are mostly asked for one after the other.
        self._group: tuple[tuple[str, int], pa.Table] | None = None

    def scores(
        self,
        *,
        scan_date: str | None = None,
        category: str | None = None,
        min_score: float | None = None,
        latest: bool = True,
        columns: list[str] | None = None,
    ) -> pd.DataFrame:
        """Rows of the score table, most anomalous first.

        Args:
            scan_date: only this partition, YYYY-MM-DD; other partitions are not read.
            category: only this class.
            min_score: only rows with at least this score.
            latest: of several rows for one object, model and category (a failed try, an older
                version), only the newest among the rows selected by date and category.
            columns: only these columns; the fewer, the less is read.

        Raises:
            FileNotFoundError: the folder has no score table.
            StorageError: it can't be listed.
        """
        condition = pc.scalar(True)
        if scan_date is not None:
            condition &= pc.field("scan_date") == scan_date
        if category is not None:
            condition &= pc.field("category").cast("string") == category
        wanted = columns or _COLUMNS.names
        needed = dict.fromkeys([*wanted, "score", *(_LATEST_BY if latest else ())])
        folder = f"{self.uri}/scores"

        def read(files: list[str]) -> pa.Table:
            table = score_dataset(folder, files, _COLUMNS)
            return table.to_table(columns=list(needed), filter=condition)

        frame = read_scores(folder, read).to_pandas()
        if latest:
            frame = _latest(frame)
        if min_score is not None:  # not before: a newer row may have a lower score
            frame = frame[frame.score >= min_score]
        frame = frame.sort_values("score", ascending=False, na_position="last", ignore_index=True)
        selected: pd.DataFrame = frame[wanted]
        return selected

    def map(self, row: Any, size: Size | None = None, sigma: float = 0.0) -> NDArray[np.float32]:
        """The anomaly map of a row of ``scores()``.

        Args:
            row: a row with map_file, map_row, width and height.
            size: side or (height, width) in pixels; None = the original image's.
            sigma: standard deviation of a Gaussian filter in pixels.

        Returns:
            float32 [height, width], abnormal probability in [0, 1].

        Raises:
            ValueError: the row has no map.
            FileNotFoundError: the row is from before a compaction, and its shard is gone.
        """
        if pd.isna(row["map_file"]):
            raise ValueError(f"{row['uri']} has no map (error: {row['error']}, or maps were off)")
        shard = str(row["map_file"])
        file = self._shard(shard)
        group, offset = _locate(file, int(row["map_row"]))
        if self._group is None or self._group[0] != (shard, group):
            self._group = (shard, group), file.read_row_group(group)
        found = self._group[1].slice(offset, 1).to_pylist()[0]
        grid = np.array(found["logit_grid"], dtype=np.float32)
        grid = grid.reshape(found["grid_height"], found["grid_width"])
        return render(grid, size or (int(row["height"]), int(row["width"])), sigma)

    def overlay(self, row: Any, *, opacity: float = 0.5, size: int = 518) -> Image.Image:
        """The image with its map in colours and its box, at most ``size`` pixels wide or high.

        The more abnormal, the stronger the colour. The image is read from its own URI.

        Raises:
            ValueError: the row has no map, or the image was replaced since.
            StorageError: the image can't be read any more.
        """
        data, etag = read_object(str(row["uri"]))
        if etag != row["etag"]:
            raise ValueError(f"{row['uri']} was replaced after it was scored")
        # It was decoded before, whatever the limit was then.
        image = decode(data, max_megapixels=1 + row["width"] * row["height"] / 1e6)
        image.thumbnail((size, size))
        anomaly_map = self.map(row, (image.height, image.width))
        colours = _colour(anomaly_map)
        strength = opacity * anomaly_map[..., None]
        mixed = np.asarray(image) * (1 - strength) + colours * strength
        drawn = Image.fromarray(mixed.astype(np.uint8))
        scale = image.width / float(row["width"])
        box = [float(row[name]) * scale for name in ("box_x0", "box_y0", "box_x1", "box_y1")]
        _draw_box(drawn, box)
        return drawn

    def _shard(self, name: str) -> pq.ParquetFile:
        if not re.fullmatch(r"maps/[\w=./-]+\.parquet", name) or ".." in name:
            raise ValueError(f"map_file {name!r} is not a shard of this output")
        if name not in self._shards:
            filesystem, path = arrow_filesystem(f"{self.uri}/{name}")
            try:
                self._shards[name] = pq.ParquetFile(path, filesystem=filesystem)
            except FileNotFoundError as error:
                message = f"{name} was compacted and vacuumed away since; read scores() again"
                raise FileNotFoundError(message) from error
            if len(self._shards) > OPEN_SHARDS:
                self._shards.popitem(last=False)
        return self._shards[name]


def open_results(uri: str) -> Results:
    """Open the output folder of a scoring job: a local path or any URI fsspec reaches."""
    return Results(uri)


def _latest(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.sort_values("scored_at", kind="stable")
    # Where --rescore met an error that may pass, what was found before still holds.
    final = frame.error.isna() | frame.error.isin([code.value for code in FINAL_ERRORS])
    frame = frame[final | ~frame.image_id.isin(frame.image_id[final])]
    newest = frame.groupby(["uri", "model"], observed=True).scored_at.transform("max")
    # A failed try ends with any newer row, also one under a category it did not have yet.
    frame = frame[frame.error.isna() | (frame.scored_at == newest)]
    return frame.drop_duplicates(["uri", "model", "category"], keep="last")


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


def _draw_box(image: Image.Image, box: list[float]) -> None:
    draw = ImageDraw.Draw(image)
    draw.rectangle(box, outline=(255, 255, 255), width=max(1, image.width // 200))
