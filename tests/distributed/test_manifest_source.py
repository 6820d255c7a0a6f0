"""The manifest in slices: every row once, in order, and early ones in small tasks."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.distributed.manifest_source import MAX_TASKS, ManifestSource, cut, read_parts
from pipeline.schema import MANIFEST_SCHEMA


def lengths(tasks: list[list[tuple[str, int, int]]]) -> list[int]:
    return [sum(end - start for _, start, end in parts) for parts in tasks]


def test_first_tasks_are_small_and_the_others_cross_files() -> None:
    tasks = cut([("a", 25), ("b", 10)], 10, first_rows=4, firsts=2)
    assert lengths(tasks) == [4, 4, 10, 10, 7]
    assert tasks[3] == [("a", 18, 25), ("b", 0, 3)]


@pytest.mark.parametrize(("rows", "first_rows"), [(1, 1), (7, 3), (100, 8)])
def test_every_row_is_in_one_task(rows: int, first_rows: int) -> None:
    files = [("a", 13), ("b", 1), ("c", 30)]
    parts = [part for task in cut(files, rows, first_rows, firsts=3) for part in task]
    found = [(uri, i) for uri, start, end in parts for i in range(start, end)]
    assert found == [(uri, i) for uri, count in files for i in range(count)]


def test_a_run_of_any_size_has_so_many_tasks_at_most() -> None:
    tasks = cut([(str(i), 10_000) for i in range(1_000)], 8, first_rows=4, firsts=4)
    assert len(tasks) <= MAX_TASKS + 4
    assert sum(lengths(tasks)) == 10_000_000


def test_tasks_read_their_rows(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        rows = [{"image_id": f"{name}{i}"} for i in range(5)]
        table = pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)
        pq.write_table(table, tmp_path / name)
        files.append((f"file://{tmp_path}/{name}", 5))
    source = ManifestSource(cut(files, 4, first_rows=4, firsts=1))
    read = [task() for task in source.get_read_tasks(1)]
    ids = [[i for t in tables for i in t["image_id"].to_pylist()] for tables in read]
    assert ids == [["a0", "a1", "a2", "a3"], ["a4", "b0", "b1", "b2"], ["b3", "b4"]]
    (table,) = read_parts([(files[0][0], 1, 2)])
    assert table.schema == MANIFEST_SCHEMA
