"""An output folder, opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pipeline.anomaly_map import Size, render, render_logits
from pipeline.calibration import MEASURES, Measure, above
from pipeline.config.checks import check_given
from pipeline.gray_range import GrayRange
from pipeline.identity import ModelIdentity, base_of
from pipeline.images import decode
from pipeline.inputs.shards import read_version
from pipeline.output.layout import scores_of
from pipeline.output.rows import COLUMNS
from pipeline.redaction import holds_credential, redact
from pipeline.schema import ErrorCode, require_columns
from pipeline.storage import StorageError, absolute
from pipeline.terminal import counted

from .caption import captioned
from .maps import MapReader, overlaid
from .masks import MASK_COLUMNS, MapLimits, MapThreshold, Masks, find_masks
from .nothing_selected import warn_if_nothing_is_selected
from .selection import Days, Selection, names_of
from .similar import read_similar
from .table import (
    SIMILARITY,
    newest_identity,
    read_frame,
    read_top,
    values_of,
)

BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
MAP_PLACE = ("map_file", "map_row")


class Results:
    """An output folder of the scoring job; made by ``open_results``."""

    def __init__(self, uri: str) -> None:
        self.uri = absolute(uri)
        self._folder = scores_of(self.uri)
        self._maps = MapReader(self.uri)
        self._known = ""  # what a read of the whole table found, for ``repr``

    def __repr__(self) -> str:
        """Its place, and behind it what ``scores()`` of everything found last; reads nothing."""
        known = f"  # {self._known}" if self._known else ""
        return f"open_results({redact(self.uri)!r}){known}"

    def newest_model(self) -> ModelIdentity:
        """The model of the newest row, and of each category the references of its newest row.

        ``scores(model=results.newest_model())`` has scores that compare: of an image that was
        scored with several references, or before there were any, the row with these. Reads three
        small columns of the whole table.

        Raises:
            FileNotFoundError: the folder has no score table.
            StorageError: it can't be listed.
        """
        return newest_identity(self._folder)

    def scores(
        self,
        *,
        scan_date: Days | None = None,
        category: str | Sequence[str] | None = None,
        min_score: float | None = None,
        latest: bool = True,
        columns: str | Sequence[str] | None = None,
        model: str | ModelIdentity | None = None,
        prefix: str | None = None,
    ) -> pd.DataFrame:
        """Rows of the score table, most anomalous first: by score, and where these are equal, as
        scores near 1 are, by their logit.

        What is not asked for is not read: other dates' files are not opened, other columns and row
        groups without the category or the score are skipped. Memory is that of the rows returned.

        Args:
            scan_date: only these partitions: a date (YYYY-MM-DD or a ``date``), a list of dates,
                or a range as a tuple (from, to), both inclusive, None = open. An empty list has no
                rows.
            category: only this class, or these; an empty list has no rows. Where no row has one of
                them, a ``NothingSelectedWarning`` names the nearest that there are.
            min_score: only rows with at least this score.
            latest: of several rows for one object, model and category (a failed try, an older
                version), only the newest among the rows selected by the other arguments but the
                score.
            columns: only this column, or these; the fewer, the less is read. To open a map of the
                rows, ask for map_file, map_row, width and height too.
            model: only rows whose column ``model`` is this, or begins with this fingerprint: it has
                its rows with any references. A ``ModelIdentity`` has of each category those with
                its references only.
            prefix: only URIs that begin with it; a local path may be relative. Where no row does, a
                ``NothingSelectedWarning`` names a URI that there is.

        Raises:
            FileNotFoundError: the folder has no score table.
            StorageError: it can't be listed.
            ValueError: a date is not YYYY-MM-DD, a range ends before it begins, or there is no such
                column.
        """
        wanted = _checked(columns)
        selection = Selection(scan_date=scan_date, category=category, model=model, prefix=prefix)
        frame = read_frame(self._folder, selection, wanted, latest=latest, minimum=min_score)
        warn_if_nothing_is_selected(frame, self._folder, selection)
        if all(each is None for each in (scan_date, category, min_score, columns, model, prefix)):
            self._known = _contents(frame)
        selected: pd.DataFrame = frame[wanted]
        return selected

    def top(
        self,
        n: int,
        by: Measure = "score",
        *,
        per_category: bool = True,
        scan_date: Days | None = None,
        category: str | Sequence[str] | None = None,
        columns: str | Sequence[str] | None = None,
        model: str | ModelIdentity | None = None,
        prefix: str | None = None,
    ) -> pd.DataFrame:
        """The n most anomalous images, newest rows only, highest first.

        The table is read in batches and never held: memory grows with n and the number of
        categories, not with the table.

        Args:
            n: how many, at least 1.
            by: "score", "map_max" or "anomalous_area". Among equal scores the highest logit is
                first, among equal values the smaller image_id.
            per_category: n of each category; else n of all.
            scan_date, category, columns, model, prefix: as for ``scores``.

        Raises:
            FileNotFoundError: the folder has no score table.
            StorageError: it can't be listed.
            ValueError: n is below 1, or there is no such column.
        """
        if n < 1:
            raise ValueError(f"n is {n}; ask for at least one image")
        if by not in MEASURES:
            raise ValueError(f"by is {by!r}; known are {', '.join(MEASURES)}")
        wanted = _checked(columns)
        selection = Selection(scan_date=scan_date, category=category, model=model, prefix=prefix)
        frame = read_top(self._folder, selection, wanted, n=n, by=by, per_category=per_category)
        warn_if_nothing_is_selected(frame, self._folder, selection)
        selected: pd.DataFrame = frame[wanted]
        return selected

    def map(
        self, row: Any, size: Size | None = None, sigma: float = 0.0, *, logits: bool = False
    ) -> NDArray[np.float32]:
        """The anomaly map of a row of ``scores()``.

        Args:
            row: a row with map_file, map_row, width and height.
            size: side or (height, width) in pixels; None = the original image's.
            sigma: standard deviation of a Gaussian filter in pixels.
            logits: give the map before the sigmoid, and filter it there.

        Returns:
            float32 [height, width], abnormal probability in [0, 1], or abnormal minus normal logit.

        Raises:
            TypeError: there is not one row, such as ``frame.iloc[0]``.
            ValueError: the row has no map, or lacks these columns.
            FileNotFoundError: the row is from before a compaction, and its shard is gone.
        """
        _check_one(row)
        require_columns(row, MAP_PLACE if size else (*MAP_PLACE, "width", "height"))
        if pd.isna(row["map_file"]):
            name, error = row.get("uri", "the row"), row.get("error", "unknown")
            raise ValueError(f"{name} has no map (error: {error}, or maps were off)")
        grid = self._maps.grid(str(row["map_file"]), int(row["map_row"]))
        made = render_logits if logits else render
        return made(grid, size or (int(row["height"]), int(row["width"])), sigma)

    def overlay(
        self, row: Any, *, opacity: float = 0.5, size: int = 518, caption: bool = True
    ) -> Image.Image:
        """The image with its map in colours and its box, above its score and file name.

        The more abnormal, the stronger the colour. The image is read from its own URI.

        Args:
            row: a row of ``scores()`` with uri, etag, width, height, box_x0 to box_y1, map_file and
                map_row; with score, too, where the caption is to have it.
            opacity: of the colour where the map is 1, in [0, 1].
            size: the image is at most so many pixels wide and high.
            caption: a strip below it has score, name and a scale of the colours from 0 to 1; it is
                44 pixels high and at least 160 wide. False leaves it out; the other pixels are the
                same.

        Raises:
            TypeError: there is not one row, such as ``frame.iloc[0]``.
            ValueError: the row has no map, lacks columns, or the image was replaced since.
            StorageError: the image can't be read any more.
        """
        _check_one(row)
        require_columns(row, ("uri", "etag", "width", "height", "model", *BOX, *MAP_PLACE))
        try:
            data = read_version(str(row["uri"]), str(row["etag"]))
        except StorageError as error:
            if error.code != ErrorCode.CHANGED:
                raise
            raise ValueError(f"{row['uri']} was replaced after it was scored") from error
        # It was decoded before, whatever the limit was then.
        limit, gray_range = 1 + row["width"] * row["height"] / 1e6, GrayRange.of(str(row["model"]))
        image = decode(data, max_megapixels=limit, gray_range=gray_range, apart=True)
        image.thumbnail((size, size))
        scale = image.width / float(row["width"])
        box = [float(row[name]) * scale for name in BOX]
        drawn = overlaid(image, self.map(row, (image.height, image.width)), box, opacity)
        if not caption:
            return drawn
        name, score = redact(str(row["uri"]).rpartition("/")[2]), row.get("score")
        return captioned(drawn, name, None if pd.isna(score) else float(score), opacity)

    def similar(
        self, row: Any, n: int = 10, *, columns: str | Sequence[str] | None = None
    ) -> pd.DataFrame:
        """The images most similar to one, of the same category and model; newest rows only.

        Similar is what CLIP's class embedding, before AdaCLIP's prompts, is close to: the image as
        a whole. Needs a scoring job with ``--embeddings``. Embeddings are read a row group at a
        time, all of the category; a few times n rows are held.

        Args:
            row: a row with uri, category, model, map_file and map_row; it is left out itself.
            n: how many, at least 1.
            columns: only these columns of the score table, beside uri and similarity.

        Returns:
            uri, similarity (cosine, at most 1) and the columns, the most similar first. Images
            without an embedding are in no row.

        Raises:
            TypeError: there is not one row, such as ``frame.iloc[0]``.
            ValueError: the row has no embedding or lacks these columns, n is below 1, or there is
                no such column.
            FileNotFoundError: the row is from before a compaction, and its shard is gone.
        """
        if n < 1:
            raise ValueError(f"n is {n}; ask for at least one image")
        _check_one(row)
        require_columns(row, ("uri", "category", "model", *MAP_PLACE))
        wanted = list(dict.fromkeys(["uri", SIMILARITY.name, *_checked(columns)]))
        selected: pd.DataFrame = read_similar(self._folder, self._maps, row, wanted, n=n)[wanted]
        return selected

    def to_masks(
        self,
        threshold: MapThreshold,
        rows: pd.DataFrame | pd.Series | None = None,
        *,
        min_area: float = 0,
    ) -> Masks:
        """Regions of maps above a threshold: boxes and polygons in pixels of the original images.

        Args:
            threshold: of the map: a number, one for each category, or a ``Calibration``, whose
                thresholds of ``map_max`` are those that good images' maps rarely exceed anywhere.
            rows: rows of ``scores()``, or one row, with image_id, uri, category, score, width,
                height, map_file, map_row and model. Rows without a map are left out. Default: the
                newest rows of all images whose map exceeds the threshold.
            min_area: regions of fewer pixels are left out.

        Raises:
            ValueError: a category has no threshold, the calibration is of another model or of
                other references, or the rows lack columns.
            FileNotFoundError: the rows are from before a compaction, and their shards are gone.
        """
        limits = MapLimits(threshold)
        if rows is None:
            selection = Selection(category=limits.categories, model=limits.model)
            lowest = limits.lowest()
            rows = read_frame(self._folder, selection, MASK_COLUMNS, minimum=lowest, by="map_max")
            if rows.empty and limits.model is not None:
                limits.check_any(values_of(self._folder, "model"))
            rows = rows[above(rows, threshold, "map_max").fillna(False)]
        frame = rows.to_frame().T if isinstance(rows, pd.Series) else rows
        masks = find_masks(frame, self.map, limits, min_area)
        return replace(masks, output_categories=partial(values_of, self._folder, "category"))


def open_results(uri: str) -> Results:
    """Open the output folder of a scoring job: a local path or any URI fsspec reaches.

    Raises:
        ValueError: the URI is empty, or carries a password or a signature.
    """
    check_given("the output", uri)
    if holds_credential(uri):
        raise ValueError(
            "the output's URI holds a password or a signature; give credentials through the usual "
            "environment variables, files or roles"
        )
    return Results(uri)


def _contents(frame: pd.DataFrame) -> str:
    """How much a score table holds, in a line."""
    kinds = (
        counted(frame["category"].nunique(), "category", "categories"),
        counted(len({base_of(model) for model in frame["model"].unique()}), "model"),
        counted(frame["scan_date"].nunique(), "date"),
    )
    return f"{counted(len(frame), 'row')} of {', '.join(kinds)} when last read"


def _check_one(row: Any) -> None:
    """Refuse a frame, the number of a row, or a tuple of its values."""
    if isinstance(row, pd.Series | Mapping):
        return
    given = f"a frame of {len(row):,}" if isinstance(row, pd.DataFrame) else type(row).__name__
    raise TypeError(f"one row of scores() is wanted, such as frame.iloc[0], not {given}")


def _checked(columns: str | Sequence[str] | None) -> list[str]:
    wanted = COLUMNS.names if columns is None else names_of(columns)
    if unknown := sorted(set(wanted) - set(COLUMNS.names)):
        raise ValueError(
            f"the score table has no column {', '.join(unknown)}; it has {', '.join(COLUMNS.names)}"
        )
    return wanted
