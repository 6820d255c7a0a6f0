"""Large score tables of known content, and a filesystem that counts what is read of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileOpener, LocalFileSystem

from pipeline.schema import SCORE_SCHEMA

ROWS = 20_000
GROUP = 5_000
CATEGORIES = ("bolt", "cable", "nut", "screw")  # one a row group


class CountingFileSystem(LocalFileSystem):
    """Local files; remembers the bytes read of each."""

    protocol = ("counting",)
    cachable = False
    read: ClassVar[Counter[str]] = Counter()

    def _open(self, path: str, mode: str = "rb", **options: Any) -> LocalFileOpener:
        if path.endswith(".parquet"):
            self.read[path] += 0
        return _CountingFile(path, mode, fs=self, **options)


class _CountingFile(LocalFileOpener):
    def read(self, length: int = -1) -> bytes:
        data: bytes = self.f.read(length)
        if self.path.endswith(".parquet"):
            CountingFileSystem.read[self.path] += len(data)
        return data


fsspec.register_implementation("counting", CountingFileSystem, clobber=True)


def write_night(output: Path, scan_date: str, seed: int = 0) -> Path:
    """A score file of ``ROWS`` rows in row groups of ``GROUP``, a category each, scores rising."""
    rng = np.random.default_rng(seed)
    hexadecimal = [rng.bytes(32).hex() for _ in range(ROWS)]
    columns = {
        "image_id": [digits[:32] for digits in hexadecimal],
        "uri": [f"s3://b/in/{scan_date}/{digits}.jpg" for digits in hexadecimal],
        "etag": hexadecimal[::-1],
        "category": [CATEGORIES[i * len(CATEGORIES) // ROWS] for i in range(ROWS)],
        "score": np.arange(ROWS, dtype=np.float32) / ROWS,
        "map_max": rng.random(ROWS, dtype=np.float32),
        "anomalous_area": rng.random(ROWS, dtype=np.float32),
        "model": ["m"] * ROWS,
        "scored_at": [1_700_000_000_000_000 + seed] * ROWS,
    }
    arrays = [
        pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.nulls(ROWS, f.type)
        for f in SCORE_SCHEMA
    ]
    file = output / "scores" / f"scan_date={scan_date}" / "x.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(
        pa.table(arrays, schema=SCORE_SCHEMA), file, row_group_size=GROUP, compression="zstd"
    )
    return file


def column_bytes(file: Path, columns: set[str], groups: set[int]) -> int:
    """Bytes that some columns of some row groups take in a file."""
    metadata = pq.ParquetFile(file).metadata
    return sum(
        column.total_compressed_size
        for group in groups
        for number in range(metadata.num_columns)
        if (column := metadata.row_group(group).column(number)).path_in_schema in columns
    )
