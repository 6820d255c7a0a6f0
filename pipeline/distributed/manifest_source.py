"""The manifest as Ray Data reads it: slices of its files, each one task together with its images.

Ray's own reader of Parquet files would be a stage before, and cutting its blocks another: each with
processes of its own to start before the first image is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from pipeline.schema import MANIFEST_SCHEMA
from pipeline.storage import read_object

ROW_BYTES = 300  # of a manifest; Ray Data only wants to know what it will hold in memory
# The driver holds every task from the start, 3 KB each, and from 5,000 on Ray Data warns of them.
MAX_TASKS = 4_096

Part = tuple[str, int, int]
"""URI of a file, and the first and the last row of it, exclusive."""


def cut(
    files: Sequence[tuple[str, int]], rows: int, first_rows: int, firsts: int
) -> list[list[Part]]:
    """What each task reads, in order.

    Args:
        files: URIs and their numbers of rows.
        rows: of a task.
        first_rows: of the first tasks, by which rows come out early.
        firsts: how many those are.
    """
    pending = sum(count for _, count in files)
    rows = max(rows, -(-pending // MAX_TASKS))
    tasks: list[list[Part]] = [[]]
    left = min(rows, first_rows)
    for uri, count in files:
        start = 0
        while start < count:
            if not left:
                tasks.append([])
                left = min(rows, first_rows) if len(tasks) <= firsts else rows
            end = min(count, start + left)
            tasks[-1].append((uri, start, end))
            left -= end - start
            start = end
    return tasks


class ManifestSource(Datasource):
    """The rows of the manifest (``schema.MANIFEST_SCHEMA``)."""

    def __init__(self, tasks: Sequence[Sequence[Part]]) -> None:
        """Name the slices.

        Args:
            tasks: what each reads.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._tasks = tasks

    def get_name(self) -> str:
        """As it stands in Ray's dashboard."""
        return "Manifest"

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of all rows, about."""
        return sum(_length(parts) for parts in self._tasks) * ROW_BYTES

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """One for each of the tasks, whatever the parallelism."""
        return [
            ReadTask(
                partial(read_parts, parts),
                BlockMetadata(
                    num_rows=_length(parts),
                    size_bytes=_length(parts) * ROW_BYTES,
                    input_files=None,
                    exec_stats=None,
                ),
                schema=MANIFEST_SCHEMA,
                per_task_row_limit=per_task_row_limit,
            )
            for parts in self._tasks
        ]


def _length(parts: Sequence[Part]) -> int:
    return sum(end - start for _, start, end in parts)


def read_parts(parts: Sequence[Part]) -> Iterator[pa.Table]:
    """A table for each part of a task."""
    for uri, start, end in parts:
        yield _read(uri).slice(start, end - start)


@lru_cache(maxsize=1)  # a process reads one slice of a file after the other
def _read(uri: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(read_object(uri)[0]), schema=MANIFEST_SCHEMA)
