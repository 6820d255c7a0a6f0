"""The read stage: manifest rows → square uint8 pixels, or the reason why there are none."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.gray_range import GrayRange
from pipeline.images import Decoder, ImageError, max_object_bytes
from pipeline.images.tiles import Squares, squares
from pipeline.inputs.shards import Fetch, planned
from pipeline.schema import ErrorCode, pixel_schema
from pipeline.storage import StorageError
from pipeline.tiling import WHOLE, Tiling

from .reading_log import Row, read_logged

FETCH_THREADS = 16
# Small objects are fetched several in a row by one thread: handing over takes as long as a disk.
GROUP, GROUP_OBJECT_BYTES = 8, 1 << 16
FETCHED_BYTES_AHEAD = 256 * 2**20  # encoded images waiting for the decoder, per task
ROWS_PER_YIELD = 16  # bounds a task's memory: 13 MB of pixels at 518 px

Cut = Callable[[bytes], Squares]
Part = bytes | StorageError
Fetched = tuple[Part, float] | None
"""A row's bytes or why there are none, and the seconds they took; None: not to be fetched."""
Started = Future[list[tuple[list[Part], float]]] | None


def read_images(
    rows: pa.Table,
    *,
    image_size: int,
    max_megapixels: float,
    decoder: Decoder = "exact",
    gray_range: tuple[float, float] | None = None,
    tiling: tuple[int, int] = WHOLE,
    side: int = 1,
    log: Any = None,
    apart: bool = False,
) -> Iterator[pa.Table]:
    """Fetch and decode a block of the manifest.

    Objects, or ranges of shards with several images, are fetched some ahead in threads while this
    thread decodes in order. A row that fails stays, with null pixels, an error code and a message.

    Args:
        rows: ``schema.MANIFEST_SCHEMA``.
        image_size: side of the square in pixels.
        max_megapixels: larger images are refused before they are decoded.
        decoder: "fast" takes ``pipeline.images.fast``, whose pixels differ a little.
        gray_range: of pixels of more than 8 bits (``pipeline.images.decode``).
        tiling: which tiles of an image become rows of their own, side by side.
        side: of a tile in patches.
        apart: for a process that is no reader (``pipeline.images.decode``).
        log: handle of a ``ReadingLog``, by which rows that kill their readers are given up.

    Yields:
        Tables of ``schema.pixel_schema(image_size)``; the tiles of an image one after the other.
    """
    schema = pixel_schema(image_size)
    cut = partial(
        _decoder(decoder),
        size=image_size,
        tiling=Tiling(*tiling),
        side=side,
        max_megapixels=max_megapixels,
        gray_range=None if gray_range is None else GrayRange(*gray_range),
        apart=apart,
    )
    read = partial(_all_read, max_bytes=max_object_bytes(max_megapixels), cut=cut)
    done: list[Row] = []
    for row in read_logged(rows.to_pylist(), _key, log, read=read, give_up=_given_up):
        done.append(row)
        if len(done) == ROWS_PER_YIELD:
            yield pa.Table.from_pylist(done, schema=schema)
            done = []
    if done:
        yield pa.Table.from_pylist(done, schema=schema)


def _all_read(rows: list[Row], *, max_bytes: int, cut: Cut) -> Iterator[Row]:
    for row, fetched in _fetch_ahead(rows, max_bytes):
        yield from _read(row, fetched, cut)


def _key(row: Row) -> str:
    return str(row["image_id"])


def _given_up(row: Row, reason: str) -> Row:
    message = f"{reason}; look at its size and format, or leave it out with --exclude"
    return row | {"error": ErrorCode.KILLED_READER.value, "error_message": message}


def _fetch_ahead(rows: list[Row], max_bytes: int) -> Iterator[tuple[Row, Fetched]]:
    """Rows in order, each with what was fetched; some more are fetched meanwhile."""
    waiting: deque[tuple[list[Fetch], Started]] = deque()
    bytes_ahead = 0
    for row in rows:
        _refuse_by_size(row, max_bytes)
    with ThreadPoolExecutor(FETCH_THREADS) as pool, ThreadPoolExecutor(1) as one_by_one:
        for group in _grouped(planned(rows, max_bytes)):
            more = sum(fetch.bytes for fetch in group)
            while waiting and (
                len(waiting) >= 2 * FETCH_THREADS or bytes_ahead + more > FETCHED_BYTES_AHEAD
            ):
                bytes_ahead -= sum(fetch.bytes for fetch in waiting[0][0])
                yield from _fetched(*waiting.popleft())
            started = None
            if not group[0].rows[0]["error"]:
                threads = one_by_one if group[0].in_order else pool
                started = threads.submit(_all_fetched, group)
            waiting.append((group, started))
            bytes_ahead += more
        while waiting:
            yield from _fetched(*waiting.popleft())


def _grouped(fetches: Iterable[Fetch]) -> Iterator[list[Fetch]]:
    """Several small objects, or anything else alone."""
    group: list[Fetch] = []
    for fetch in fetches:
        small = fetch.bytes <= GROUP_OBJECT_BYTES and not (fetch.members or fetch.rows[0]["error"])
        if group and (len(group) == GROUP or not small):
            yield group
            group = []
        if small:
            group.append(fetch)
        else:
            yield [fetch]
    if group:
        yield group


def _all_fetched(group: list[Fetch]) -> list[tuple[list[Part], float]]:
    return [fetch.read() for fetch in group]


def _fetched(group: list[Fetch], started: Started) -> Iterator[tuple[Row, Fetched]]:
    if started is None:
        yield from ((row, None) for fetch in group for row in fetch.rows)
        return
    for fetch, (parts, seconds) in zip(group, started.result(), strict=True):
        for row, part in zip(fetch.rows, parts, strict=True):
            if fetch.in_order and isinstance(part, bytes):
                row["size"] = len(part)  # of which the listing gave the mean
            yield row, (part, seconds)


def _decoder(decoder: Decoder) -> Callable[..., Squares]:
    if decoder == "exact":
        return squares
    import torch  # only this decoder's readers need it

    from pipeline.images.fast import fast_squares

    torch.set_num_threads(1)  # one reader decodes on one core
    return fast_squares


def _refuse_by_size(row: Row, max_bytes: int) -> None:
    """What the listing's size tells already needs no fetch."""
    if row["error"]:
        return
    if row["size"] == 0:
        row |= {"error": ErrorCode.EMPTY.value, "error_message": "the object has no bytes"}
    elif row["size"] > max_bytes:
        message = f"{row['size']:,} bytes; the limit is {max_bytes:,} (--max-megapixels)"
        row |= {"error": ErrorCode.TOO_LARGE.value, "error_message": message}


def _read(row: Row, fetched: Fetched, cut: Cut) -> Iterator[Row]:
    """The row with its pixels, or a row for each tile; of the first all times that came before."""
    if fetched is None:
        yield row
        return
    data, fetch_s = fetched
    try:
        if isinstance(data, StorageError):
            raise data
        row["fetch_s"] = fetch_s
        started = time.monotonic()
        image = cut(data)
        row |= {"width": image.width, "height": image.height}
        row |= {"frames": image.frames, "deep_share": image.deep_share}
        for tile, pixels in enumerate(image.pixels):
            told = {"tile": tile, "pixels": pixels.tobytes()}
            yield row | told | {"decode_s": time.monotonic() - started}
            row["fetch_s"], started = 0.0, time.monotonic()
        return
    except StorageError as error:
        row |= {"error": error.code.value, "error_message": str(error)}
    except ImageError as error:
        row |= {"error": error.code.value, "error_message": str(error)}
        row |= {"width": error.width, "height": error.height}
    except MemoryError:
        message = "no memory to fetch or resize the image"
        row |= {"error": ErrorCode.OUT_OF_MEMORY.value, "error_message": message}
    yield row
