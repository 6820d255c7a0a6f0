"""What compression makes of map shards: bytes and time for each map, and who can read them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.images import MEAN, STD
from pipeline.models import load_adaclip
from pipeline.models.packaged import IMAGE_SIZE, SMALL_MODEL
from pipeline.output.writer import MAP_ROWS_PER_GROUP
from pipeline.schema import MAP_SCHEMA
from pipeline.synthetic import CATEGORIES, generate

NUM_MAPS = 256  # two row groups
BATCH = 16
# DuckDB 2.0 refuses BYTE_STREAM_SPLIT for half-precision floats, so it is not used.
ENCODINGS = ("PLAIN", "BYTE_STREAM_SPLIT")
LEVELS: tuple[tuple[str, int | None], ...] = (
    ("none", None),
    ("snappy", None),
    ("zstd", 1),
    ("zstd", 3),
    ("zstd", 9),
    ("zstd", 19),
)
REPEATS = 5


def measure_maps() -> list[dict[str, Any]]:
    """Every codec on logit grids that the small model gives for generated images."""
    return list(measure_table(maps_of(logit_grids())))


def logit_grids() -> NDArray[np.float16]:
    """[NUM_MAPS, h, w] of good and damaged products of all categories."""
    model = load_adaclip(**SMALL_MODEL)
    names, grids = list(CATEGORIES), []
    for first in range(0, NUM_MAPS, BATCH):
        numbers = range(first, first + BATCH)
        categories = [names[i % len(names)] for i in numbers]
        pixels = np.stack(
            [
                generate(c, "good" if i % 2 else "hole", i, IMAGE_SIZE).image
                for i, c in zip(numbers, categories, strict=True)
            ]
        )
        images = (pixels.astype(np.float32) / 255 - np.array(MEAN)) / np.array(STD)
        out = model.predict(images.transpose(0, 3, 1, 2).astype(np.float32), categories)
        grids.append(out.logit_grid.numpy().astype(np.float16))
    return np.concatenate(grids)


def maps_of(grids: NDArray[np.float16]) -> pa.Table:
    """Grids [n, h, w] as ``schema.MAP_SCHEMA``, with identities that don't compress."""
    count, height, width = grids.shape
    random = np.random.default_rng(0)
    columns = {
        "image_id": [random.bytes(16).hex() for _ in range(count)],
        "logit_grid": list(grids.reshape(count, -1)),
        "grid_height": [height] * count,
        "grid_width": [width] * count,
        "embedding": [None] * count,
    }
    return pa.table(columns, schema=MAP_SCHEMA)


def measure_table(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Bytes and CPU microseconds for each map, written and read, by codec and encoding.

    Medians of ``REPEATS``, after one that doesn't count.
    """
    for codec, level in LEVELS:
        for encoding in ENCODINGS:
            options: dict[str, Any] = {"compression": codec, "compression_level": level}
            if encoding != "PLAIN":
                options["column_encoding"] = {"logit_grid.list.element": encoding}
            _, *rounds = [_write_and_read(table, options) for _ in range(1 + REPEATS)]
            size, *seconds = (statistics.median(values) for values in zip(*rounds, strict=True))
            write_us, read_us = (round(1e6 * each / len(table), 1) for each in seconds)
            yield {
                "codec": codec if level is None else f"{codec} {level}",
                "encoding": encoding,
                "bytes": round(size / len(table), 1),
                "write_us": write_us,
                "read_us": read_us,
            }


def _write_and_read(table: pa.Table, options: dict[str, Any]) -> tuple[int, float, float]:
    """Bytes, and seconds of processor time to write and to read them."""
    sink = pa.BufferOutputStream()
    started = time.process_time()
    pq.write_table(table, sink, use_dictionary=False, row_group_size=MAP_ROWS_PER_GROUP, **options)
    written = time.process_time()
    data = sink.getvalue()
    back = pq.read_table(pa.BufferReader(data))
    read = time.process_time()
    assert back.equals(table)
    return len(data), written - started, read - written
