"""The pixel stage of an evaluation: maps and masks → histograms → metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import ray
from numpy.typing import NDArray

from pipeline.datasets import DatasetError, LostMaskError, read_masks
from pipeline.distributed.cluster import quiet_data
from pipeline.errors import CannotRunError
from pipeline.evaluation import PixelHistogram
from pipeline.evaluation.pixels import HISTOGRAM_SCHEMA
from pipeline.results import open_results
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError
from pipeline.terminal import PROGRESS_INTERVAL_S

_log = logging.getLogger(__name__)

IMAGES_PER_BLOCK = 64  # a task's histogram has 36 MB, its masks 17 MB at 518 px
MASK_THREADS = 8
BAD_MASK = "bad_mask"

_UNUSED_MASKS = ("bad_masks", "lost_masks")  # URI of an image → why its mask is not used

_TO_MEASURE = pa.schema(
    [
        pa.field("group", pa.int64()),
        *[pa.field(name, pa.string()) for name in ("uri", "mask_uri", "map_file")],
        *[pa.field(name, pa.int32()) for name in ("width", "height", "map_row")],
        pa.field("more_mask_uris", pa.list_(pa.string())),
    ]
)
_MEASURED = pa.schema(
    [
        *HISTOGRAM_SCHEMA,
        pa.field("group", pa.int64()),
        pa.field("done", pa.int64()),
        *[pa.field(name, pa.map_(pa.string(), pa.string())) for name in _UNUSED_MASKS],
    ]
)


def measure_pixels(
    frame: pd.DataFrame, output: str, *, image_size: int, sigma: float, logits: bool
) -> dict[int, dict[str, float]]:
    """Pixel metrics of scored, labelled images.

    Images with an error are left out; so are abnormal ones without a mask, whose defects could be
    anywhere. A mask that can't be used becomes an error of the frame. One in which nothing is left
    of the defect counts as none: the frame's new column lost_mask says why.

    Args:
        frame: group (a number for each category), uri, mask_uri, more_mask_uris, label, width,
            height, map_file, map_row, error, error_message.
        output: the scoring job's folder that holds the maps.
        image_size: side in pixels to which maps and masks are resized.
        sigma: standard deviation in pixels of the Gaussian filter on maps.
        logits: filter and rank logits instead of probabilities.

    Returns:
        ``PixelHistogram.metrics`` by group; groups without any mask are left out.

    Raises:
        CannotRunError: the images were scored without maps.
        StorageError: a map can't be read.
    """
    frame["lost_mask"] = None
    has_masks = frame.groupby("group").mask_uri.transform("count") > 0
    known = (frame.label == 0) | frame.mask_uri.notna()
    chosen = frame[has_masks & known & frame.error.isna()]
    if without := int(chosen.map_file.isna().sum()):
        raise CannotRunError(
            f"{without:,} of the scored images have no map (--no-maps); score them with maps into "
            "another output"
        )
    arguments = {"output": output, "image_size": image_size, "sigma": sigma, "logits": logits}
    metrics: dict[int, dict[str, float]] = {}
    if chosen.empty:
        return metrics
    remaining = chosen.groupby("group").size().to_dict()
    histograms: dict[int, PixelHistogram] = {}
    num_done, said = 0, time.monotonic()
    for measured in _measured(chosen, arguments):
        group = measured["group"][0].as_py()
        histograms.setdefault(group, PixelHistogram(logits=logits)).merge_row(measured)
        for uri, message in measured["bad_masks"][0].as_py():
            at = (frame.group == group) & (frame.uri == uri)
            frame.loc[at, ["error", "error_message"]] = [BAD_MASK, message]
        for uri, message in measured["lost_masks"][0].as_py():
            frame.loc[(frame.group == group) & (frame.uri == uri), "lost_mask"] = message
        done = measured["done"][0].as_py()
        num_done, remaining[group] = num_done + done, remaining[group] - done
        if not remaining[group]:  # only categories under way are held
            metrics[group] = histograms.pop(group).metrics()
        if time.monotonic() - said > PROGRESS_INTERVAL_S:
            said = time.monotonic()
            _log.info(f"{num_done:,} / {len(chosen):,} maps measured")
    if histograms:
        raise RuntimeError("some maps went in and did not come out")
    return metrics


def _measured(frame: pd.DataFrame, arguments: dict[str, Any]) -> Iterator[pa.Table]:
    """Rows of ``_MEASURED``, in no fixed order.

    Raises:
        StorageError: a map can't be read.
    """
    quiet_data()
    blocks = []
    for _, rows in frame.sort_values(["map_file", "map_row"]).groupby("group"):
        table = pa.Table.from_pandas(rows, schema=_TO_MEASURE, preserve_index=False)
        blocks += [table.slice(i, IMAGES_PER_BLOCK) for i in range(0, len(table), IMAGES_PER_BLOCK)]
    measure: Any = measure_maps
    graph = ray.data.from_arrow(blocks).map_batches(
        measure, fn_kwargs=arguments, batch_size=None, batch_format="pyarrow"
    )
    batch: Any
    try:
        for batch in graph.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from (batch.slice(i, 1) for i in range(len(batch)))
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, OSError | ValueError):
            raise
        message = f"a map below {arguments['output']} can't be read: {error.cause}"
        raise StorageError(ErrorCode.FETCH_FAILED, message) from None


def measure_maps(
    rows: pa.Table, *, output: str, image_size: int, sigma: float, logits: bool
) -> Iterator[pa.Table]:
    """Histograms of the pixels of scored images: one row a group, whatever the number of images.

    Args:
        rows: group, uri, mask_uri (null: an empty mask), more_mask_uris, width, height, map_file,
            map_row.
        output, image_size, sigma, logits: as for ``measure_pixels``.
    """
    results = open_results(output)
    mask_of = partial(_mask, size=image_size)
    for group in pc.unique(rows["group"]).to_pylist():
        images = rows.filter(pc.equal(rows["group"], group)).to_pylist()
        histogram = PixelHistogram(logits=logits)
        unused: dict[str, list[tuple[str, str]]] = {name: [] for name in _UNUSED_MASKS}
        with ThreadPoolExecutor(MASK_THREADS) as pool:
            for image, mask in zip(images, pool.map(mask_of, images), strict=True):
                if isinstance(mask, LostMaskError):
                    unused["lost_masks"].append((image["uri"], str(mask)))
                elif isinstance(mask, Exception):
                    unused["bad_masks"].append((image["uri"], str(mask)))
                else:
                    histogram.add(results.map(image, image_size, sigma, logits=logits), mask)
        counts = [pa.array([group]), pa.array([len(images)])]
        told = [pa.array([unused[n]], _MEASURED.field(n).type) for n in _UNUSED_MASKS]
        columns = [*histogram.to_row().columns, *counts, *told]
        yield pa.table(columns, schema=_MEASURED)


def _mask(image: dict[str, Any], size: int) -> NDArray[np.bool_] | Exception:
    """The mask of an image, or why it can't be used."""
    uris = [*filter(None, [image["mask_uri"]]), *(image["more_mask_uris"] or ())]
    try:
        return read_masks(uris, size, width=image["width"], height=image["height"])
    except (StorageError, DatasetError, LostMaskError) as error:
        return error
