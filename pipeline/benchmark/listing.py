"""What a night costs before its first image: a listing of millions against a ledger of as many.

The listing is made up by a file system of its own, which the pipeline lists like any other; the
ledger is a score table of as many rows, in the files that nightly runs write. One object in a
hundred is new. No Ray, no images, and no PyTorch, which such a driver doesn't load.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import BenchmarkConfig, ScoreConfig
from pipeline.inputs.manifest import build_manifest
from pipeline.output.ledger import read_final_ids
from pipeline.output.score_files import to_parquet
from pipeline.output.writer import ROWS_PER_FILE
from pipeline.provenance import peak_memory_bytes
from pipeline.storage import list_objects

from .machine import in_own_process
from .score_tables import IDENTITY, score_rows

_log = logging.getLogger(__name__)

COUNTS = (100_000, 1_000_000)
PAGE = 1_000  # objects a folder, as many as a page of S3
NEW_EVERY = 100
MODIFIED = datetime(2026, 1, 1, tzinfo=UTC)
LEDGER_COLUMNS = ("image_id", "model", "error")  # that the ledger reads of the score table


def measure_listing(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """A row for each number of objects; its memory is that of a process of its own."""
    results = []
    for count in config.num_images or COUNTS:
        _log.info(f"{count:,} objects")
        with tempfile.TemporaryDirectory() as folder:
            sizes = make_ledger(folder, count)
            results.append(in_own_process(measure_night, folder, count) | sizes)
    return results


def measure_night(output: str, count: int) -> dict[str, Any]:
    """Ledger, listing and anti-join; and the listing alone, which is the generator's share.

    Args:
        output: folder with ``make_ledger``'s files for as many objects.
    """
    fsspec.register_implementation("synthetic", SyntheticFileSystem, clobber=True)
    result: dict[str, Any] = {"objects": count, "imports_bytes": peak_memory_bytes()}
    with _timed(result, "ledger"):
        done = read_final_ids(output, IDENTITY, max_megapixels=100)
    assert len(done) == count
    result["ledger_bytes"] = peak_memory_bytes()
    config = ScoreConfig(input=(f"synthetic://{count}",), output=output)
    with _timed(result, "manifest"):
        manifest = build_manifest(config, IDENTITY, done, f"{output}/runs/1/manifest")
    new = len(range(0, count, NEW_EVERY))
    assert (manifest.listed, manifest.pending, manifest.skipped) == (count, new, count - new)
    result |= {"new": new, "peak_bytes": peak_memory_bytes()}
    with _timed(result, "generating"):
        listed = sum(len(page) for page in list_objects(f"synthetic://{count}"))
    assert listed == count
    return result


@contextmanager
def _timed(result: dict[str, Any], stage: str) -> Iterator[None]:
    """Wall-clock and CPU seconds; on a busy machine the second is what compares."""
    wall, cpu = time.monotonic(), time.process_time()
    yield
    result[f"{stage}_s"] = round(time.monotonic() - wall, 2)
    result[f"{stage}_cpu_s"] = round(time.process_time() - cpu, 2)


class SyntheticFileSystem(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """``synthetic://<count>``: that many objects, in folders of ``PAGE``."""

    protocol = "synthetic"

    def isfile(self, path: str) -> bool:
        """Nothing but the folder is asked for."""
        return False

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[dict[str, Any]]:
        """The folders at the top, or the objects of one."""
        count, _slash, folder = path.partition("/")
        if not folder:
            starts = range(0, int(count), PAGE)
            return [{"name": f"{path}/{_line(i)}", "type": "directory"} for i in starts]
        start = PAGE * int(folder.removeprefix("line-"))
        alike = {"type": "file", "size": 500_000, "updated": MODIFIED}
        return [
            {**alike, "name": f"{path}/{_name(i)}", "etag": _etag(i)}
            for i in range(start, min(start + PAGE, int(count)))
        ]


def make_ledger(output: str, count: int) -> dict[str, int]:
    """``count`` rows: the listing without what is new, and as many objects that are gone.

    Returns:
        Compressed bytes of the score table, and of the columns that the ledger reads of it.
    """
    folder = Path(output) / "scores" / "scan_date=2026-01-01"
    folder.mkdir(parents=True)
    total = read = 0
    for start in range(0, count, ROWS_PER_FILE):
        path = folder / f"run-{start:09d}.parquet"
        numbers = range(start, min(start + ROWS_PER_FILE, count))
        path.write_bytes(to_parquet(_scores(numbers, count)))
        groups = pq.read_metadata(path).to_dict()["row_groups"]
        for column in (column for group in groups for column in group["columns"]):
            total += column["total_compressed_size"]
            if column["path_in_schema"] in LEDGER_COLUMNS:
                read += column["total_compressed_size"]
    return {"table_bytes": total, "read_bytes": read}


def _scores(numbers: range, count: int) -> pa.Table:
    """Rows of ``SCORE_SCHEMA`` that compress as real ones do."""
    objects = [i if i % NEW_EVERY else count + i for i in numbers]
    known: dict[str, Any] = {
        "uri": pa.array([f"synthetic://{count}/{_line(i)}/{_name(i)}" for i in objects]),
        "etag": pa.array([_etag(i) for i in objects]),
        "category": pa.array([_line(i) for i in objects]),
        "map_file": [f"maps/scan_date=2026-01-01/{numbers.start}.parquet"] * len(objects),
    }
    return score_rows(known, np.random.default_rng(numbers.start))


def _line(i: int) -> str:
    """The folder of an object, which is its category."""
    return f"line-{i // PAGE:06d}"


def _name(i: int) -> str:
    return f"{i:09d}.jpg"


def _etag(i: int) -> str:
    """As S3 gives it: an MD5 in quotes."""
    return f'"{i:032x}"'
