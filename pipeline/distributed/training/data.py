"""Feeding the training workers: plan rows → fetched, decoded samples, in the plan's order.

Every worker has its own part of the plan read, by tasks of its own. One pipeline split over the
workers would not say which worker gets what; this way a step sees the same images whoever computes
it, and continuing at any step is starting the plan there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from pipeline.datasets import DatasetError, LostMaskError, read_masks
from pipeline.datasets.sampling import Sample, mosaic
from pipeline.distributed.reading_log import Row, read_logged, start_reading_log
from pipeline.distributed.resources import CPUS_PER_READER
from pipeline.images import ImageError, decode, to_square
from pipeline.inputs.shards import read_named
from pipeline.storage import StorageError

SAMPLES_PER_BLOCK = 16  # 17 MB at 518 px: small enough that several wait in memory
FETCH_THREADS = 8

_IMAGE = pa.struct(
    [("uri", pa.string()), ("mask_uris", pa.list_(pa.string())), ("label", pa.int8())]
)
PLAN_SCHEMA = pa.schema(
    [
        pa.field("category", pa.string()),
        pa.field("images", pa.list_(_IMAGE)),
    ]
)


@dataclass(frozen=True)
class Batch:
    """One worker's part of one step; may be empty."""

    pixels: NDArray[np.uint8]
    """[B, size, size, 3] RGB."""
    masks: NDArray[np.uint8]
    """[B, size, size], 1 on the defect."""
    labels: NDArray[np.int8]
    """[B], 1 for abnormal."""
    has_mask: NDArray[np.bool_]
    """[B], false where the defect's place is unknown."""
    categories: list[str]
    uris: list[str]
    """The images of each sample, for messages."""
    errors: list[str]
    """What could not be read, with its name; a batch with errors can't be trained on."""
    lost_masks: list[str]
    """Images whose masks say nothing at this size, with the reason; ``has_mask`` is false."""

    def __len__(self) -> int:
        return len(self.categories)


def step_part(
    step: int, worker: int, *, num_workers: int, batch_size: int, num_samples: int
) -> slice:
    """A worker's part of a step of an epoch; the last step may be short, or a part empty."""
    first = min((step * num_workers + worker) * batch_size, num_samples)
    return slice(first, min(first + batch_size, num_samples))


def plan_table(rows: pa.Table, samples: Sequence[Sample]) -> pa.Table:
    """What the readers need of some samples, in order.

    Args:
        rows: ``schema.LABELLED_SCHEMA``, to which the samples' indices point.

    Returns:
        ``PLAN_SCHEMA``.
    """
    columns = rows.select(["uri", "mask_uri", "more_mask_uris", "label", "category"]).to_pylist()
    for row in columns:
        row["mask_uris"] = [*filter(None, [row["mask_uri"]]), *(row["more_mask_uris"] or ())]
    plan = [
        {"category": columns[sample[0]]["category"], "images": [columns[i] for i in sample]}
        for sample in samples
    ]
    return pa.Table.from_pylist(plan, schema=PLAN_SCHEMA)


def feed(
    plan: pa.Table,
    sizes: Sequence[int],
    *,
    image_size: int,
    max_megapixels: float,
    blocks_ahead: int = 2,
) -> Generator[Batch]:
    """Batches of the given sizes, in the plan's order, read ahead by CPU tasks.

    Args:
        plan: ``PLAN_SCHEMA``.
        sizes: of the batches; all samples of the plan together.
        image_size: side of the square in pixels.
        max_megapixels: larger images are an error.
        blocks_ahead: of ``SAMPLES_PER_BLOCK``, read at a time or waiting.
    """
    plan = plan.add_column(0, "position", pa.array(range(len(plan)), pa.int64()))
    readers = _Readers(image_size=image_size, max_megapixels=max_megapixels)
    tables = _read(plan, readers, blocks_ahead)
    waiting: list[dict[str, Any]] = []
    position = 0
    for size in sizes:
        while len(waiting) < size:
            waiting += next(tables).to_pylist()
        batch, waiting = waiting[:size], waiting[size:]
        # Another order would be another training run.
        assert [s["position"] for s in batch] == list(range(position, position + size))
        position += size
        yield _batch(batch, image_size)


def _read(plan: pa.Table, readers: _Readers, blocks_ahead: int) -> Iterator[pa.Table]:
    """Samples of the plan's blocks, in order.

    Tasks of our own, because Ray Data would start three more processes for each worker's pipeline.
    """
    waiting: deque[tuple[pa.Table, ray.ObjectRef[pa.Table]]] = deque()
    for first in range(0, len(plan), SAMPLES_PER_BLOCK):
        block = plan.slice(first, SAMPLES_PER_BLOCK).combine_chunks()
        waiting.append((block, readers.start(block)))
        if len(waiting) >= blocks_ahead:
            yield readers.result(*waiting.popleft())
    while waiting:
        yield readers.result(*waiting.popleft())


class _Readers:
    """Tasks that read a block each."""

    def __init__(self, **limits: Any) -> None:
        self._limits = limits
        self._log: Any = None

    def start(self, block: pa.Table) -> Any:
        """The samples, once there; what ends the task's process is an error of theirs."""
        return _task(max_retries=0).remote(block, **self._limits)

    def result(self, block: pa.Table, samples: ray.ObjectRef[pa.Table]) -> pa.Table:
        """A block's samples, read again if that ended the process which read them."""
        table: pa.Table
        try:
            table = ray.get(samples)
            return table
        except ray.exceptions.RayTaskError:
            raise  # what the task raised itself
        except ray.exceptions.RayError:
            if self._log is None:  # no process for it before there is something to note
                self._log = start_reading_log()
            ray.get(self._log.start.remote(_key(block.slice(0, 1).to_pylist()[0])))
        table = ray.get(_task(max_retries=-1).remote(block, **self._limits, log=self._log))
        return table


def _task(**options: Any) -> Any:
    return ray.remote(read_block).options(num_cpus=CPUS_PER_READER, name="read_samples", **options)


def read_block(block: pa.Table, **options: Any) -> pa.Table:
    """All of ``read_samples``, as one table."""
    return pa.concat_tables(read_samples(block, **options))


def read_samples(
    rows: pa.Table, *, image_size: int, max_megapixels: float, log: Any = None
) -> Iterator[pa.Table]:
    """Fetch and decode a block of the plan.

    Args:
        rows: ``PLAN_SCHEMA`` after a column ``position``.
        image_size: side of the square in pixels; even, for mosaics.
        max_megapixels: larger images are an error.
        log: handle of a ``ReadingLog``, by which what kills its readers becomes an error.

    Yields:
        Tables of ``sample_schema(image_size)``, one a sample.
    """
    read_one = partial(_read_sample, size=image_size, max_megapixels=max_megapixels)

    def read(samples: list[Row]) -> Iterator[Row]:
        with ThreadPoolExecutor(FETCH_THREADS) as pool:
            yield from pool.map(read_one, samples)

    for sample in read_logged(rows.to_pylist(), _key, log, read=read, give_up=_given_up):
        yield pa.Table.from_pylist([sample], schema=sample_schema(image_size))


def sample_schema(image_size: int) -> pa.Schema:
    """What the readers hand to the workers."""
    return pa.schema(
        [
            pa.field("position", pa.int64()),
            pa.field("category", pa.string()),
            pa.field("label", pa.int8()),
            pa.field("has_mask", pa.bool_()),
            pa.field("pixels", pa.binary(image_size * image_size * 3)),
            pa.field("mask", pa.binary(image_size * image_size)),
            pa.field("uris", pa.string()),
            pa.field("error", pa.string()),
            pa.field("lost_masks", pa.list_(pa.string())),
        ]
    )


def _key(sample: Row) -> str:
    return str(sample["position"])


def _given_up(row: Row, reason: str) -> Row:
    sample = _unread(row)
    return {**sample, "error": f"{sample['uris']}: {reason}"}


def _unread(row: Row) -> Row:
    uris = ", ".join(image["uri"] for image in row["images"])
    return {"position": row["position"], "category": row["category"], "uris": uris}


def _read_sample(row: Row, size: int, max_megapixels: float) -> Row:
    images, sample = row["images"], _unread(row)
    side = size if len(images) == 1 else size // 2
    tiles, masks, lost = [], [], []
    for image in images:
        try:
            tile, mask = _read_image(image, side, max_megapixels)
        except _UnreadableError as error:
            return {**sample, "error": str(error)}
        if isinstance(mask, LostMaskError):
            lost.append(f"{image['uri']}: {mask}")
            mask = np.zeros((side, side), dtype=np.uint8)
        tiles.append(tile)
        masks.append(mask)
    if len(tiles) > 1:
        tiles, masks = [mosaic(tiles)], [mosaic(masks)]
    return {
        **sample,
        "label": max(image["label"] for image in images),
        "has_mask": not lost and all(im["mask_uris"] or not im["label"] for im in images),
        "pixels": tiles[0].tobytes(),
        "mask": masks[0].tobytes(),
        "lost_masks": lost,
    }


class _UnreadableError(Exception):
    """An image or mask that gives no pixels; the message names it."""


def _read_image(
    image: dict[str, Any], side: int, max_megapixels: float
) -> tuple[NDArray[Any], NDArray[Any] | LostMaskError]:
    """Pixels [side, side, 3] and mask [side, side] of one image, or why the mask says nothing."""
    uri = image["uri"]
    try:
        square = to_square(decode(read_named(uri), max_megapixels=max_megapixels), side)
        size = {"width": square.width, "height": square.height}
        return square.pixels, read_masks(image["mask_uris"], side, **size).astype(np.uint8)
    except LostMaskError as error:
        return square.pixels, error
    except DatasetError as error:  # names the mask
        raise _UnreadableError(str(error)) from error
    except (StorageError, ImageError, MemoryError) as error:
        raise _UnreadableError(f"{uri}: {str(error) or type(error).__name__}") from error


def _batch(samples: list[dict[str, Any]], size: int) -> Batch:
    readable = [s for s in samples if s["error"] is None]

    def stack(name: str, *shape: int) -> NDArray[np.uint8]:
        joined = bytearray().join(s[name] for s in readable)
        return np.frombuffer(joined, dtype=np.uint8).reshape(-1, *shape)

    return Batch(
        pixels=stack("pixels", size, size, 3),
        masks=stack("mask", size, size),
        labels=np.array([s["label"] for s in readable], dtype=np.int8),
        has_mask=np.array([s["has_mask"] for s in readable], dtype=bool),
        categories=[s["category"] for s in readable],
        uris=[s["uris"] for s in readable],
        errors=[s["error"] for s in samples if s["error"] is not None],
        lost_masks=[lost for s in readable for lost in s["lost_masks"] or ()],
    )
