"""What a night costs before its first image: a listing of millions against a ledger of as many.

``python -m jobs.benchmark_listing --counts 1000000 --counts 10000000 --output result.json``

The listing is made up by a file system of its own, which the pipeline lists like any other; the
ledger is a score table of as many rows, in the files that nightly runs write. One object in a
hundred is new. What is measured runs in a fresh process, because peak memory is a process's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from pipeline.benchmark.machine import hardware
from pipeline.config import ScoreConfig
from pipeline.identity import ModelIdentity
from pipeline.inputs.manifest import build_manifest
from pipeline.output.layout import MANIFEST, MAPS, SCORES, partition_of, run_folder, scores_of
from pipeline.output.ledger import image_ids, read_final_ids
from pipeline.output.snapshot import score_files
from pipeline.output.writer import ROWS_PER_FILE
from pipeline.provenance import peak_memory_bytes, versions
from pipeline.schema import SCORE_SCHEMA
from pipeline.storage import list_objects

IDENTITY = ModelIdentity("benchmark")
PAGE = 1_000  # objects a folder, as many as a page of S3
NEW_EVERY = 100
MODIFIED = datetime(2026, 1, 1, tzinfo=UTC)
SCAN_DATE = "2026-01-01"


@dataclass(frozen=True, kw_only=True)
class ListingBenchmarkConfig:
    """Measure listing, ledger and anti-join without images."""

    counts: tuple[int, ...] = ()
    """Number of objects. Repeat for a series. Default: 100000 and 1000000."""
    note: str = ""
    """Stands in the JSON: what else the machine was doing."""
    output: Path | None = None
    """Where the JSON goes. Default: standard output."""
    measure: Path | None = None
    """Measure against the ledger in this folder, in this process; for the benchmark's own use."""


class SyntheticFileSystem(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """``synthetic://<count>``: that many objects, in folders of ``PAGE``."""

    protocol = "synthetic"

    def isfile(self, path: str) -> bool:
        """Nothing but the folder is asked for."""
        return False

    def walk(self, path: str, **_: Any) -> Iterator[tuple[str, list[str], dict[str, Any]]]:
        """Folders with their files, in order."""
        count = int(path)
        for start in range(0, count, PAGE):
            folder = f"{path}/line-{start // PAGE:06d}"
            files = {
                f"{i:09d}.jpg": {
                    "name": f"{folder}/{i:09d}.jpg",
                    "type": "file",
                    "size": 500_000,
                    "etag": etag(i),
                    "updated": MODIFIED,
                }
                for i in range(start, min(start + PAGE, count))
            }
            yield folder, [], files


def etag(i: int) -> str:
    """As S3 gives it: an MD5 in quotes."""
    return f'"{i:032x}"'


def main() -> None:
    """Run every count and write the JSON."""
    config = tyro.cli(ListingBenchmarkConfig, config=(tyro.conf.UseAppendAction,))
    fsspec.register_implementation("synthetic", SyntheticFileSystem, clobber=True)
    if config.measure:
        print(json.dumps(measure(config.counts[0], str(config.measure))))
        return
    document = {
        "benchmark": "listing against ledger",
        "hardware": hardware(),
        "versions": versions(),
        "settings": {
            "new_objects": f"1 in {NEW_EVERY}",
            "ledger_rows_per_file": ROWS_PER_FILE,
            "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        },
        "note": config.note,
        "results": [in_own_process(count) for count in config.counts or (100_000, 1_000_000)],
    }
    text = json.dumps(document, indent=2)
    if config.output:
        config.output.parent.mkdir(parents=True, exist_ok=True)
        config.output.write_text(text + "\n")
    else:
        print(text)


def in_own_process(count: int) -> dict[str, Any]:
    """Make the ledger here, measure in a fresh interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        make_ledger(folder, count)
        command = [sys.executable, "-m", "jobs.benchmark_listing", f"--counts={count}"]
        done = subprocess.run([*command, f"--measure={folder}"], check=True, stdout=subprocess.PIPE)
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def measure(count: int, output: str) -> dict[str, Any]:
    """One night: ledger, listing and anti-join; and the listing alone, which is the generator's."""
    seconds: dict[str, dict[str, float]] = {}
    before = peak_memory_bytes()
    with timed(seconds, "ledger"):
        done = read_final_ids(output, IDENTITY, max_megapixels=100)
    assert len(done) == count
    after_ledger = peak_memory_bytes()
    config = ScoreConfig(input=(f"synthetic://{count}",), output=output)
    with timed(seconds, "listing_and_anti_join"):
        manifest = build_manifest(config, IDENTITY, done, f"{run_folder(output, '1')}/{MANIFEST}")
    new = len(range(0, count, NEW_EVERY))
    assert (manifest.listed, manifest.pending, manifest.skipped) == (count, new, count - new)
    peak = peak_memory_bytes()
    with timed(seconds, "of_which_generating_the_listing"):
        listed = sum(len(page) for page in list_objects(f"synthetic://{count}"))
    assert listed == count
    return {
        "objects": count,
        "ledger_rows": count,
        "new": manifest.pending,
        "seconds": seconds,
        "peak_memory_bytes": {"imports": before, "ledger": after_ledger, "all": peak},
        "ledger_bytes": column_bytes(output),
    }


@contextmanager
def timed(seconds: dict[str, dict[str, float]], stage: str) -> Iterator[None]:
    """Wall-clock and CPU time; on a busy machine the second is what compares."""
    wall, cpu = time.monotonic(), time.process_time()
    yield
    spent = {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}
    seconds[stage] = {name: round(value, 2) for name, value in spent.items()}


def make_ledger(output: str, count: int) -> None:
    """``count`` rows: the listing without what is new, and as many objects that are gone."""
    random = np.random.default_rng(0)
    folder = Path(output) / SCORES / partition_of(SCAN_DATE)
    folder.mkdir(parents=True)
    for start in range(0, count, ROWS_PER_FILE):
        numbers = [
            i if i % NEW_EVERY else count + i
            for i in range(start, min(start + ROWS_PER_FILE, count))
        ]
        lines = [f"line-{i // PAGE:06d}" for i in numbers]
        uris = [f"synthetic://{count}/{k}/{i:09d}.jpg" for i, k in zip(numbers, lines, strict=True)]
        known: dict[str, Any] = {
            "uri": pa.array(uris),
            "etag": pa.array([etag(i) for i in numbers]),
            "category": pa.array(lines),
        }
        ids = image_ids(known["uri"], known["etag"], IDENTITY, known["category"])
        digits = ids.tobytes().hex()
        size = len(numbers)
        known |= {
            "image_id": pa.array([digits[i : i + 32] for i in range(0, len(digits), 32)]),
            "model": IDENTITY.column(known["category"]),
            "size": pa.array(random.integers(1 << 20, size=size)),
            "map_file": pa.array([f"{MAPS}/{partition_of(SCAN_DATE)}/{start}.parquet"] * size),
            "map_row": pa.array(np.arange(size)),
        }
        for name in ("score", "map_max", "anomalous_area"):
            known[name] = pa.array(random.random(size, dtype=np.float32))
        for name in ("box_x0", "box_y0", "box_x1", "box_y1", "width", "height"):
            known[name] = pa.array(random.integers(4096, size=size))
        arrays = [
            known[f.name].cast(f.type) if f.name in known else pa.nulls(size, f.type)
            for f in SCORE_SCHEMA
        ]
        table = pa.table(arrays, schema=SCORE_SCHEMA)
        pq.write_table(table, folder / f"run-{start:09d}.parquet", compression="zstd")


def column_bytes(output: str) -> dict[str, int]:
    """Compressed bytes of the score table, and of the columns that the ledger reads of it."""
    total = needed = 0
    for uri in score_files(scores_of(output)):
        metadata = pq.read_metadata(uri.removeprefix("file://"))
        for group in range(metadata.num_row_groups):
            for i in range(metadata.num_columns):
                column = metadata.row_group(group).column(i)
                total += column.total_compressed_size
                if column.path_in_schema in ("image_id", "model", "error"):
                    needed += column.total_compressed_size
    return {"all_columns": total, "read": needed}


if __name__ == "__main__":
    main()
