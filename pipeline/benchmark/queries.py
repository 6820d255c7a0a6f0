"""What a question to a large table costs: seconds, requests to S3, memory; DuckDB beside it.

The table has 300 nights, each of one file, as nightly compaction leaves them; one image in a
hundred was scored again the night after.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from pipeline.config import BenchmarkConfig
from pipeline.output.score_files import clustered, to_parquet
from pipeline.provenance import peak_memory_bytes
from pipeline.results import Results, open_results
from pipeline.storage import absolute, write_object
from pipeline.storage.access import s3_client

from .machine import in_own_process
from .score_tables import score_rows

_log = logging.getLogger(__name__)

Reader = Callable[[str, str], dict[str, Any]]

ROWS = 1_000_000
NIGHTS, CATEGORIES = 300, 20
AGAIN = 0.01  # of a night's images, scored once more the night after
FIRST = date(2026, 1, 1)
CATEGORY, LEAST, BEST = "part-07", 0.5, 20

QUESTIONS: dict[str, Callable[[Results], Any]] = {
    f"top({BEST})": lambda results: results.top(BEST),
    f"scores({CATEGORY}, {LEAST})": lambda results: results.scores(
        category=CATEGORY, min_score=LEAST
    ),
}
_NEWEST = """
    SELECT * FROM (
        SELECT *, row_number() OVER (PARTITION BY uri, model, category ORDER BY scored_at DESC) AS n
        FROM read_parquet('{files}', hive_partitioning = true, union_by_name = true)
    ) WHERE n = 1 AND error IS NULL
"""
SQL = {
    f"top({BEST})": f"SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY category ORDER BY "
    f"score DESC) AS r FROM ({_NEWEST})) WHERE r <= {BEST}",
    f"scores({CATEGORY}, {LEAST})": f"SELECT * FROM ({_NEWEST}) WHERE category = '{CATEGORY}' AND "
    f"score >= {LEAST}",
}
"""The same questions, as docs/results.md spells them."""


def measure_queries(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """A row for each number of rows, question and reader, each in a process of its own."""
    results = []
    for count in config.num_images or (ROWS,):
        with _folder(config.work) as folder:
            _log.info(f"making {count:,} rows below {folder}")
            in_own_process(make_table, folder, count)
            for question in QUESTIONS:
                for reader, ask in _readers(folder).items():
                    told = {"question": question, "reader": reader, "rows": count}
                    results.append(told | in_own_process(ask, folder, question))
    return results


def _readers(folder: str) -> dict[str, Reader]:
    readers: dict[str, Reader] = {"open_results": _ours}
    if folder.startswith("file://"):  # from S3 it reads by an extension that it downloads
        readers["DuckDB"] = _by_duckdb
    return readers


def make_table(output: str, count: int) -> None:
    """So many rows, night by night."""
    per_night = count // NIGHTS
    for night in range(NIGHTS):
        scored_at = datetime(2026, 1, 1, 2, tzinfo=UTC) + timedelta(night)
        day, random = FIRST + timedelta(night), np.random.default_rng(night)
        numbers = np.arange(night * per_night, (night + 1) * per_night)
        again = random.random(per_night) < (AGAIN if night else 0)
        numbers = numbers - again * per_night
        category = [f"part-{number % CATEGORIES:02d}" for number in numbers]
        uris = [f"s3://b/{part}/{i:010d}.jpg" for part, i in zip(category, numbers, strict=True)]
        known = {
            "uri": pa.array(uris),
            "etag": pa.array([f'"{uuid4().hex}"' for _ in numbers]),
            "category": pa.array(category),
            "map_file": [f"maps/scan_date={day}/z.parquet"] * per_night,
            "scored_at": pa.repeat(scored_at, per_night),
        }
        data = to_parquet(clustered(score_rows(known, random)))
        name = f"scores/scan_date={day}/z-compacted-{night:05d}.parquet"
        write_object(f"{output}/{name}", data)


def _ours(output: str, question: str) -> dict[str, Any]:
    requests: list[str] = []
    if output.startswith("s3://"):
        s3_client().meta.events.register("before-send.s3", lambda **_: requests.append(""))
    results = open_results(output)
    found = _timed(partial(QUESTIONS[question], results))
    return found | {"requests": len(requests) if output.startswith("s3://") else None}


def _by_duckdb(output: str, question: str) -> dict[str, Any]:
    import duckdb  # a peer, which the package does not need

    connection = duckdb.connect()
    connection.execute("SET threads = 2; SET preserve_insertion_order = false")
    files = f"{output.removeprefix('file://')}/scores/*/*.parquet"
    query = SQL[question].format(files=files)
    return _timed(lambda: connection.sql(query).df()) | {"requests": None}


def _timed(ask: Callable[[], Any]) -> dict[str, Any]:
    before = peak_memory_bytes()
    wall, cpu = time.monotonic(), time.process_time()
    found = len(ask())
    return {
        "found": found,
        "s": round(time.monotonic() - wall, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "peak_bytes": peak_memory_bytes(),
        "imports_bytes": before,
    }


@contextmanager
def _folder(work: str | None) -> Iterator[str]:
    if work is not None:  # left behind on purpose, as of whole_job
        yield f"{absolute(work)}/benchmark-{uuid4().hex[:8]}"
        return
    with tempfile.TemporaryDirectory() as folder:
        yield absolute(folder)
