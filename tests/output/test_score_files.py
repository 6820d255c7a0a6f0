"""Score files: rows of a category lie together, and values that hardly repeat are there once."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.output import score_files
from pipeline.output.compaction import compact
from pipeline.output.score_files import clustered, to_parquet
from pipeline.results import open_results
from pipeline.schema import SCORE_SCHEMA
from tests.outputs import scored, write


def mixed(count: int, **columns: object) -> list[dict[str, object]]:
    """Images of two categories in turns, every fifth an error."""
    return [
        scored("s3://b/in", i, None if i % 5 == 4 else i / count) | columns for i in range(count)
    ]


def categories(path: Path) -> list[list[str]]:
    """Lowest and highest of each row group, by its statistics."""
    file, number = pq.ParquetFile(path), SCORE_SCHEMA.get_field_index("category")
    groups = [file.metadata.row_group(i).column(number) for i in range(file.num_row_groups)]
    return [[each.statistics.min, each.statistics.max] for each in groups]


def table(output: Path) -> pd.DataFrame:
    frame = open_results(str(output)).scores(latest=False)
    frame = frame.sort_values(["image_id", "run_id"], ignore_index=True)
    return frame.drop(columns=["map_file", "map_row"])


def test_row_groups_hold_few_categories_as_written_and_compacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(score_files.OPTIONS, "row_group_size", 10)
    write(str(tmp_path), mixed(40), "2026-01-01", run_id="a")
    write(str(tmp_path), mixed(20), "2026-01-01", run_id="b")
    first, second = sorted(tmp_path.glob("scores/*/*.parquet"))
    assert categories(first) == [["bolt", "bolt"]] * 2 + [["nut", "nut"]] * 2
    assert categories(second) == [["bolt", "bolt"], ["nut", "nut"]]
    before = table(tmp_path)
    compact(f"file://{tmp_path}", before="2026-01-02")
    (whole,) = tmp_path.glob("scores/*/*.parquet")
    assert categories(whole) == [["bolt", "bolt"]] * 3 + [["nut", "nut"]] * 3
    pd.testing.assert_frame_equal(table(tmp_path), before)


def test_within_a_category_rows_keep_their_order_and_those_without_come_last() -> None:
    rows = pa.Table.from_pylist(
        [
            {"image_id": str(i), "category": name}
            for i, name in enumerate(["nut", "bolt", None, "nut", "bolt"])
        ],
        schema=pa.schema([SCORE_SCHEMA.field(name) for name in ("image_id", "category")]),
    )
    assert clustered(rows)["image_id"].to_pylist() == ["1", "4", "0", "3", "2"]
    assert clustered(rows[:0]).equals(rows[:0])


def test_values_that_hardly_repeat_are_written_once(tmp_path: Path) -> None:
    """A dictionary of them was a second copy: a quarter of the file."""
    write(str(tmp_path), mixed(2_000), "2026-01-01")
    (path,) = tmp_path.glob("scores/*/*.parquet")
    rows = pq.ParquetFile(path).read()
    metadata = pq.ParquetFile(path).metadata.row_group(0)
    columns = {
        metadata.column(i).path_in_schema: metadata.column(i) for i in range(rows.num_columns)
    }
    plain = {name for name, each in columns.items() if "RLE_DICTIONARY" not in each.encodings}
    assert {"image_id", "uri", "etag", "score", "map_row"} <= plain
    assert not plain & {"category", "model", "run_id", "map_file"}
    copied = pa.BufferOutputStream()
    pq.write_table(rows, copied, **(score_files.OPTIONS | {"use_dictionary": True}))
    assert len(to_parquet(rows)) < 0.9 * copied.tell()
