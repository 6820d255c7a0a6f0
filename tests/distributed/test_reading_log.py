"""Rows that kill their readers are given up by name, and the others are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from pipeline.distributed.reading_log import (
    MAX_DEATHS,
    MAX_UNEXPLAINED,
    ReadingLog,
    UnreadableBlockError,
    start_reading_log,
)
from pipeline.distributed.training import data
from pipeline.distributed.training.data import feed, plan_table, read_samples
from pipeline.schema import LABELLED_SCHEMA, MANIFEST_SCHEMA
from pipeline.storage import stat
from tests.bucket import jpeg

SIZE = 28
DEADLY = b"deadly"


def test_the_row_that_was_being_read_is_given_up_after_several_deaths() -> None:
    log = ReadingLog()
    assert log.start("block") is None
    assert log.start("block") == set()
    for deaths in range(1, MAX_DEATHS + 1):
        log.note("block", "a")
        log.note("block", None)
        log.note("block", "b")
        assert log.start("block") == ({"b"} if deaths == MAX_DEATHS else set())
    log.finish("block")
    assert log.start("block") is None


def test_other_blocks_know_nothing_of_a_death() -> None:
    log = ReadingLog()
    log.start("block")
    log.start("block")
    log.note("block", "a")
    assert log.start("other") is None
    assert log.start("block") == set()


def test_deaths_without_any_row_end_the_run() -> None:
    log = ReadingLog()
    for _ in range(MAX_UNEXPLAINED + 1):
        log.start("block")
    with pytest.raises(UnreadableBlockError, match="before the first one"):
        log.start("block")


def manifest(folder: Path) -> pa.Table:
    """Five images, the second and the fourth of which kill whoever decodes them."""
    rows = []
    for i in range(5):
        path = folder / f"{i}.jpg"
        path.write_bytes(DEADLY if i in (1, 3) else jpeg(i))
        info = stat(f"file://{path}")
        row = {"image_id": f"{i:032}", "uri": info.uri, "etag": info.etag, "size": info.size}
        rows.append(row | {"last_modified": info.last_modified, "category": "bolt"})
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


@pytest.mark.usefixtures("local_ray")
def test_rows_that_kill_their_readers_become_rows(tmp_path: Path) -> None:
    def read(rows: pa.Table, log: Any) -> Iterator[pa.Table]:  # by value: workers know no tests
        import os
        import signal

        from pipeline.distributed import reader

        squares = reader.squares

        def deadly(data: bytes, **options: Any) -> Any:
            if data == b"deadly":
                os.kill(os.getpid(), signal.SIGSEGV)
            return squares(data, **options)

        reader.squares = deadly
        try:
            yield from reader.read_images(rows, image_size=28, max_megapixels=1.0, log=log)
        finally:
            reader.squares = squares

    log = start_reading_log()
    rows = ray.data.from_arrow(manifest(tmp_path)).map_batches(
        read, fn_kwargs={"log": log}, batch_size=None, batch_format="pyarrow"
    )
    found = {row["image_id"][-1]: row for row in rows.take_all()}
    errors = {key: row["error"] for key, row in sorted(found.items())}
    killed = "killed_reader"
    assert errors == {"0": None, "1": killed, "2": None, "3": killed, "4": None}
    assert f"{MAX_DEATHS} processes died" in found["1"]["error_message"]
    assert len(found["0"]["pixels"]) == SIZE * SIZE * 3


@pytest.mark.usefixtures("local_ray")
def test_training_names_what_kills_its_readers(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    row = {"uri": f"file://{tmp_path}/a.jpg", "label": 0, "category": "bolt", "split": "test"}
    plan = plan_table(pa.Table.from_pylist([row], schema=LABELLED_SCHEMA), [(0,)])
    plan = plan.add_column(0, "position", pa.array([7]))
    log = start_reading_log()
    for _ in range(MAX_DEATHS + 1):  # the first reader's death is not noted
        ray.get(log.start.remote("7"))
        ray.get(log.note.remote("7", "7"))
    (sample,) = read_samples(plan, image_size=SIZE, max_megapixels=1.0, log=log)
    assert sample["error"].to_pylist() == [f"{row['uri']}: 2 processes died while they read it"]


@pytest.mark.usefixtures("local_ray")
def test_what_kills_its_reader_costs_training_no_other_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_block(block: pa.Table, **options: Any) -> pa.Table:  # by value, as above
        import os
        import signal

        from pipeline.distributed.training import data

        decode = data.decode

        def deadly(content: bytes, **limits: Any) -> Any:
            if content == b"deadly":
                os.kill(os.getpid(), signal.SIGSEGV)
            return decode(content, **limits)

        data.decode = deadly
        try:
            return pa.concat_tables(data.read_samples(block, **options))
        finally:
            data.decode = decode

    monkeypatch.setattr(data, "read_block", read_block)
    rows = []
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(DEADLY if i == 1 else jpeg(i))
        uri = f"file://{tmp_path}/{i}.jpg"
        rows.append({"uri": uri, "label": 0, "category": "bolt", "split": "test"})
    table = pa.Table.from_pylist(rows, schema=LABELLED_SCHEMA)
    plan = plan_table(table, [(0,), (1,), (2,)])
    first, second, third = feed(plan, [1, 1, 1], image_size=SIZE, max_megapixels=1.0)
    assert (len(first), len(third), first.errors, third.errors) == (1, 1, [], [])
    assert second.errors == [f"{rows[1]['uri']}: {MAX_DEATHS} processes died while they read it"]
