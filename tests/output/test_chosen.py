"""Rows chosen by a look at some columns: those a whole read has, and no more is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.output.chosen import Bound, read_chosen
from pipeline.output.rows import COLUMNS, FILE
from pipeline.output.snapshot import score_files
from tests.outputs import age, scored, write
from tests.results.tables import CATEGORIES, GROUP, ROWS, write_night

LEAST = 0.9


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for day in ("2026-01-01", "2026-01-02"):
        write_night(tmp_path, day, seed=int(day[-1]))
    return score_files(f"{tmp_path}/scores")


def high(rows: pa.Table) -> Any:
    return pc.greater_equal(rows["map_max"], pa.scalar(np.float32(LEAST)))


def reaching(column: str, least: float) -> Bound:
    return Bound(column, lambda _, highest: highest >= least)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[str, ...]]]:
    """Row groups and columns, as they are decoded."""
    read: list[tuple[int, tuple[str, ...]]] = []
    original = pq.ParquetFile.read_row_group

    def reading(file: pq.ParquetFile, i: int, columns: list[str], **kwargs: bool) -> pa.Table:
        read.append((i, tuple(columns)))
        return original(file, i, columns=columns, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", reading)
    return read


def test_they_are_those_of_a_whole_read_in_its_order(files: list[str]) -> None:
    found = pa.concat_tables(read_chosen(files, COLUMNS.names, look_at=["map_max"], choose=high))
    assert found.column_names == COLUMNS.names
    expected = pd.concat(pd.read_parquet(uri.removeprefix("file://")) for uri in files)
    expected = expected[expected["map_max"] >= np.float32(LEAST)]
    assert found["image_id"].to_pylist() == expected["image_id"].tolist()
    assert found["etag"].to_pylist() == expected["etag"].tolist()
    assert set(found["scan_date"].to_pylist()) == {"2026-01-01", "2026-01-02"}


def test_row_groups_beyond_a_bound_are_not_read_and_wide_columns_only_for_what_is_chosen(
    files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = watched(monkeypatch)
    group = ROWS // GROUP - 1  # scores rise with the rows
    least = float(np.float32(group * GROUP / ROWS))

    def last(rows: pa.Table) -> Any:
        return pc.equal(rows["score"], pc.max(rows["score"]))

    asked = {"columns": ["etag", "score", FILE], "look_at": ["score"], "choose": last}
    found = list(read_chosen(files[:1], **asked, bounds=[reaching("score", least)]))
    assert read == [(group, ("score",)), (group, ("etag",))]
    assert [len(each) for each in found] == [1]
    assert found[0][FILE][0].as_py() == files[0].removeprefix("file://")
    read.clear()
    assert not list(read_chosen(files[:1], **asked, bounds=[reaching("score", 2)]))
    assert not read


def test_text_bounds_look_at_dictionaries(
    files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = watched(monkeypatch)
    names = ["cable", "aaa"]
    bound = Bound("category", lambda low, high: any(low <= name <= high for name in names))

    def those(rows: pa.Table) -> Any:
        return pc.is_in(rows["category"].cast(pa.string()), pa.array(names))

    asked = {"columns": ["category"], "look_at": ["category"], "choose": those}
    found = pa.concat_tables(read_chosen(files, **asked, bounds=[bound]))
    assert {group for group, columns in read if columns} == {CATEGORIES.index("cable")}
    assert found["category"].to_pylist() == ["cable"] * 2 * GROUP


def test_files_of_an_older_version_have_nulls_and_no_bounds(tmp_path: Path) -> None:
    write(str(tmp_path), [scored("s3://b", i, i / 8) for i in range(8)], "2026-01-01")
    age(str(tmp_path))
    (path,) = tmp_path.glob("scores/*/*.parquet")
    absent = sorted({"reference_set", "zero_shot_score"} - set(pq.read_schema(path).names))
    assert absent, "an older version knew all of them"

    def null(rows: pa.Table) -> Any:
        return pc.is_null(rows[absent[0]])

    (found,) = read_chosen(
        score_files(f"{tmp_path}/scores"),
        ["uri", *absent],
        look_at=absent[:1],
        choose=null,
        bounds=[reaching(absent[0], 1)],
    )
    assert len(found) == 8
    assert found.schema.types[1:] == [COLUMNS.field(name).type for name in absent]
    assert found[absent[0]].null_count == 8
