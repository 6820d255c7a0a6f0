"""Regions of many images above thresholds, as objects, a table and COCO JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.calibration import Calibration, CalibrationError
from pipeline.identity import ModelIdentity
from pipeline.redaction import redact
from pipeline.schema import require_columns
from pipeline.storage import absolute, write_object
from pipeline.terminal import counted

from .regions import Polygon, Region, find_regions

MapThreshold = float | Mapping[str, float] | Calibration
MASK_COLUMNS = (
    *("image_id", "uri", "category", "score", "width", "height"),
    *("map_file", "map_row", "model"),
)
BOX_DTYPES = {
    **dict.fromkeys(("uri", "category"), "str"),
    **dict.fromkeys(("score", "threshold"), "float64"),
    **dict.fromkeys(("x0", "y0", "x1", "y1", "area"), "int64"),
    "peak": "float64",
}
SHOWN_TEXT = 60  # characters of a URI or category in a ``repr``
COORDINATE_DIGITS = 2  # of COCO polygons: a hundredth of a pixel


class MapLimits:
    """Thresholds of maps, however they were given."""

    def __init__(self, threshold: MapThreshold) -> None:
        """Check them.

        Raises:
            ValueError: one is not in [0, 1), or there is none.
        """
        self._calibration = threshold if isinstance(threshold, Calibration) else None
        values = threshold.values("map_max") if isinstance(threshold, Calibration) else threshold
        self._values: float | dict[str, float]
        self._values = dict(values) if isinstance(values, Mapping) else float(values)
        each = self._values.values() if isinstance(self._values, dict) else [self._values]
        if not all(0 <= value < 1 for value in each) or not each:
            raise ValueError(f"a threshold of maps is at least 0 and below 1, not {self._values}")

    @property
    def categories(self) -> list[str] | None:
        """Those that have a threshold; None = all."""
        return [*self._values] if isinstance(self._values, dict) else None

    @property
    def model(self) -> ModelIdentity | None:
        """The only model that they are for; None = any."""
        return self._calibration.identity if self._calibration else None

    def lowest(self) -> float:
        """The lowest of all."""
        return min(self._values.values()) if isinstance(self._values, dict) else self._values

    def of(self, category: str, model: str) -> float:
        """The threshold of a row.

        Raises:
            CalibrationError: its category has none, or its model or references are others.
        """
        if self._calibration:
            self._calibration.check_row(category, model)
        if not isinstance(self._values, dict):
            return self._values
        if category not in self._values:
            raise CalibrationError(f"there is no threshold for the category {category!r}")
        return self._values[category]

    def check_any(self, models: Iterable[str]) -> None:
        """Refuse a table that holds other models, or other references, only.

        Raises:
            CalibrationError: names the fingerprints.
        """
        models = list(models)
        if not self._calibration or not isinstance(self._values, dict):
            return
        meant = {self._calibration.identity.of(category) for category in self._values}
        if models and not meant & {*models}:
            raise CalibrationError(
                f"these thresholds are of the model {self._calibration.model}, the scores of "
                f"{', '.join(models)}; calibrate this model"
            )


@dataclass(frozen=True, kw_only=True)
class ImageMasks:
    """One image's regions above its threshold; it may have none."""

    image_id: str
    uri: str
    category: str
    width: int
    height: int
    """Pixels of the original image, as displayed."""
    score: float
    """Of the image, in [0, 1]."""
    threshold: float
    """Of its map, in [0, 1)."""
    regions: tuple[Region, ...]
    """The highest peak first."""

    def __repr__(self) -> str:
        """The end of its URI, and how many regions, not which."""
        names = f"{_end_of(self.uri)}, {_end_of(self.category)}"
        regions = f"{counted(len(self.regions), 'region')} above {self.threshold:.3f}"
        return f"ImageMasks({names}, score={self.score:.3f}, {regions})"


@dataclass(frozen=True)
class Masks:
    """Regions of images, in the order of their rows."""

    images: tuple[ImageMasks, ...]
    output_categories: Callable[[], Iterable[str]] = field(default=tuple, repr=False, compare=False)
    """Reads the class names of the whole output, which ``coco`` numbers; default: those of the
    images only."""

    def __repr__(self) -> str:
        """How many images and regions, not which."""
        regions = sum(len(image.regions) for image in self.images)
        return (
            f"Masks({counted(len(self.images), 'image')}, {counted(regions, 'region')}, "
            f"{counted(len({each.category for each in self.images}), 'category', 'categories')})"
        )

    def boxes(self) -> pd.DataFrame:
        """One row a region: uri, category, score and threshold of the image, x0, y0, x1, y1 (x1,
        y1 exclusive) and area in pixels, peak in [0, 1].

        Texts are ``str``, pixels int64 and the rest float64, also where there is no region.
        """
        names = list(BOX_DTYPES)
        rows = [
            (*(getattr(image, name) for name in names[:4]), *region.box, region.area, region.peak)
            for image in self.images
            for region in image.regions
        ]
        return pd.DataFrame(rows, columns=names).astype(BOX_DTYPES)

    def coco(self, categories: Mapping[str, int] | None = None) -> dict[str, Any]:
        """COCO's object-detection format: images, categories, and an annotation for each region.

        ``file_name`` is the image's URI, a category its class name, ``score`` the region's peak.
        ``segmentation`` is a list of polygons; of a region with holes, which COCO's polygons can't
        tell, an uncompressed run-length encoding. ``bbox`` is x, y, width, height and ``area`` the
        number of pixels above the threshold.

        Args:
            categories: the number of each class name, such as {"bolt": 7}. Default: from 1 in the
                order of all names in the output's score table, whichever rows were asked for. So
                exports of one output agree, until it gets a new category: then others may get
                another number, and only numbers that are given stay.

        Raises:
            ValueError: an image's category has no number, or two have the same.
            FileNotFoundError, StorageError: the score table can't be read; it is not where
                categories are given.
        """
        ids = self._numbered() if categories is None else dict(categories)
        if missing := sorted({image.category for image in self.images} - ids.keys()):
            raise ValueError(f"categories gives {', '.join(map(repr, missing))} no number; add it")
        if len({*ids.values()}) < len(ids):
            raise ValueError(f"categories gives several the same number: {ids}")
        annotations = [
            _annotation(image, number, region, ids[image.category])
            for number, image in enumerate(self.images, 1)
            for region in image.regions
        ]
        return {
            "info": {"description": "regions of AdaCLIP anomaly maps above a threshold"},
            "images": [
                {
                    "id": number,
                    "file_name": image.uri,
                    "width": image.width,
                    "height": image.height,
                    "score": image.score,
                    "threshold": image.threshold,
                }
                for number, image in enumerate(self.images, 1)
            ],
            "categories": [
                {"id": number, "name": name, "supercategory": "anomaly"}
                for name, number in ids.items()
            ],
            "annotations": [{"id": i, **each} for i, each in enumerate(annotations, 1)],
        }

    def write_coco(self, uri: str, categories: Mapping[str, int] | None = None) -> None:
        """Write ``coco(categories)`` as JSON, a path or URI.

        Raises:
            ValueError, FileNotFoundError: as of ``coco``.
            StorageError: it can't be written, or the score table can't be read.
        """
        write_object(absolute(uri), json.dumps(self.coco(categories), ensure_ascii=False).encode())

    def _numbered(self) -> dict[str, int]:
        names = {*self.output_categories(), *(image.category for image in self.images)}
        return {name: number for number, name in enumerate(sorted(names), 1)}


def find_masks(
    rows: pd.DataFrame,
    map_of: Callable[[Any], NDArray[np.float32]],
    limits: MapLimits,
    min_area: float,
) -> Masks:
    """Regions of the rows that have a map.

    Args:
        rows: ``MASK_COLUMNS``.
        map_of: gives a row's map at the image's own size.
        limits: the thresholds.
        min_area: smaller regions, in pixels, are left out.

    Raises:
        ValueError: the rows lack columns, or a category has no threshold.
    """
    require_columns(rows, MASK_COLUMNS)
    rows = rows[rows["map_file"].notna()].reset_index(drop=True)
    found: dict[int, ImageMasks] = {}
    # Maps of one row group one after the other: each group is then read once.
    for position, row in rows.sort_values(["map_file", "map_row"]).iterrows():
        threshold = limits.of(str(row["category"]), str(row["model"]))
        regions = find_regions(map_of(row), threshold, min_area)
        found[int(str(position))] = ImageMasks(
            image_id=str(row["image_id"]),
            uri=str(row["uri"]),
            category=str(row["category"]),
            width=int(row["width"]),
            height=int(row["height"]),
            score=float(row["score"]),
            threshold=threshold,
            regions=tuple(regions),
        )
    return Masks(tuple(found[position] for position in sorted(found)))


def _end_of(text: str) -> str:
    """Of another one's text, for a ``repr``."""
    text = redact(text)
    return repr(text if len(text) <= SHOWN_TEXT else f"…{text[1 - SHOWN_TEXT :]}")


def _annotation(
    image: ImageMasks, image_number: int, region: Region, category: int
) -> dict[str, Any]:
    x0, y0, x1, y1 = region.box
    with_holes = any(polygon.holes for polygon in region.polygons)
    return {
        "image_id": image_number,
        "category_id": category,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": region.area,
        "iscrowd": 0,
        "score": region.peak,
        "segmentation": _runs(image, region) if with_holes else _points(region.polygons),
    }


def _points(polygons: Iterable[Polygon]) -> list[list[float]]:
    return [polygon.outer.round(COORDINATE_DIGITS).ravel().tolist() for polygon in polygons]


def _runs(image: ImageMasks, region: Region) -> dict[str, Any]:
    """COCO's uncompressed RLE: lengths of runs down the columns, outside first."""
    full = np.zeros((image.height, image.width), dtype=bool)
    x0, y0, x1, y1 = region.box
    full[y0:y1, x0:x1] = region.mask
    flat = np.concatenate([[False], full.ravel(order="F")])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], starts, [full.size]]))
    return {"size": [image.height, image.width], "counts": runs.tolist()}
