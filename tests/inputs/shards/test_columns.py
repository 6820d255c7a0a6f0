"""Parquet files of images: which column, what its rows are called, and damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.inputs.shards import table_reader
from pipeline.inputs.shards.columns import image_column
from pipeline.inputs.shards.file import DamagedShardError
from pipeline.inputs.shards.reading import read_version
from pipeline.inputs.shards.table_reader import TableReader
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, stat

from .making import contents, hugging_face, listed, parquet_of

FILES = [(f"a/{i}.jpg", bytes([i]) * (100 + i)) for i in range(10)]


def test_rows_of_structs_are_called_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(hugging_face(FILES, row_group_size=4))
    assert contents(tmp_path / "a.parquet") == FILES
    assert [row["place"] for row in listed(tmp_path / "a.parquet")][3:6] == ["0.3", "1.0", "1.1"]


@pytest.mark.parametrize("paths", [["x"] * 10, [None, *"abcdefghi"], ["y" * 5000, *"abcdefghi"]])
def test_rows_without_paths_of_their_own_are_called_by_their_number(
    paths: list[Any], tmp_path: Path
) -> None:
    images = [{"bytes": data, "path": path} for (_, data), path in zip(FILES, paths, strict=True)]
    (tmp_path / "a.parquet").write_bytes(parquet_of({"image": pa.array(images)}))
    numbered = [(str(i), data) for i, (_, data) in enumerate(FILES)]
    assert contents(tmp_path / "a.parquet") == numbered


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_plain_bytes_will_do(kind: pa.DataType, compression: str, tmp_path: Path) -> None:
    table = {"n": list(range(10)), "photo": pa.array([data for _, data in FILES], kind)}
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_of(table, compression=compression, row_group_size=3))
    assert [data for _, data in contents(path)] == [data for _, data in FILES]


@pytest.mark.parametrize(
    ("schema", "leaf"),
    [
        ([("x", pa.binary())], "x"),
        ([("mask", pa.binary()), ("image", pa.binary())], "image"),
        ([("jpg", pa.binary()), ("IMG", pa.struct([("bytes", pa.binary())]))], "IMG.bytes"),
        ([("text", pa.string()), ("f", pa.struct([("bytes", pa.binary())]))], "f.bytes"),
    ],
)
def test_the_column_is_the_one_that_is_named_or_the_only_one(
    schema: list[tuple[str, pa.DataType]], leaf: str
) -> None:
    assert image_column(pa.schema(schema)).leaf == leaf


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([("x", pa.int64()), ("image", pa.string())], r"no column holds images \(it has: x, image"),
        ([("a", pa.binary()), ("b", pa.binary())], r"which of a, b holds images\?"),
        ([("image", pa.struct([("path", pa.string())]))], "no column holds images"),
    ],
)
def test_a_file_without_such_a_column_is_a_row_that_names_its_columns(
    schema: list[tuple[str, pa.DataType]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        image_column(pa.schema(schema))
    pq.write_table(pa.schema(schema).empty_table(), tmp_path / "a.parquet")
    (shard,) = listed(tmp_path / "a.parquet")
    assert (shard["name"], shard["error"]) == (None, "not_an_image")
    assert "holds images" in shard["error_message"]


def test_rows_without_bytes_say_so(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_of({"image": pa.array([b"1", None, b"3"], pa.binary())}))
    with pytest.raises(Exception, match="the row holds no bytes"):
        contents(path)
    uri, etag = f"file://{path}", stat(f"file://{path}").etag
    assert read_version(f"{uri}#2", f"{etag}#0.2") == b"3"


def test_a_column_of_text_or_of_hugging_faces_labels_names_the_class(tmp_path: Path) -> None:
    image = pa.array([b"1", b"2", b"3"], pa.binary())
    features = {"label": {"names": ["bolt", "screw"], "_type": "ClassLabel"}}
    table = pa.table({"image": image, "label": [1, 0, None], "product": ["nut", "", None]})
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(about), tmp_path / "a.parquet")

    def named(column: str) -> list[str | None]:
        return [row["category"] for row in listed(tmp_path / "a.parquet", column)]

    assert named("label") == ["screw", "bolt", ""]
    assert named("product") == ["nut", "", ""]
    assert named("category") == [None, None, None]
    assert named("image") == [None, None, None]


def test_a_file_that_claims_too_many_rows_is_not_believed(tmp_path: Path) -> None:
    schema = pa.schema([("image", pa.binary())])
    nothing = pa.table({"image": pa.nulls(1_100_000, pa.binary())})
    with pq.ParquetWriter(tmp_path / "a.parquet", schema) as writer:
        for _ in range(10):
            writer.write_table(nothing)
    (shard,) = listed(tmp_path / "a.parquet")
    assert shard["error"] == "truncated"
    assert "11,000,000 rows; at most 10,000,000 are read" in shard["error_message"]


def test_a_file_cut_anywhere_is_one_row(tmp_path: Path) -> None:
    data = hugging_face(FILES)
    for length in range(4, len(data), 97):
        (tmp_path / "a.parquet").write_bytes(data[:length])
        (shard,) = listed(tmp_path / "a.parquet")
        assert (shard["name"], shard["error"]) == (None, "truncated")


def test_a_damaged_row_group_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    data = bytearray(parquet_of({"image": [d for _, d in FILES]}, row_group_size=5))
    group = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(0).column(0)
    first, last = group.dictionary_page_offset, group.total_compressed_size
    data[first : first + last] = b"\xff" * last
    path.write_bytes(data)
    uri, etag = f"file://{path}", stat(f"file://{path}").etag
    parts = list(TableReader().read(uri, etag, 0, range(5)))
    assert all(isinstance(part, DamagedShardError) for part in parts)
    assert list(TableReader().read(uri, etag, 1, range(5))) == [d for _, d in FILES[5:]]


def test_what_is_no_parquet_file_but_for_its_name_stays_an_object(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"\xff\xd8\xff" + bytes(2000))
    (row,) = listed(tmp_path / "a.parquet")
    assert (row["name"], row["error"]) == (None, None)


def test_a_row_group_is_decoded_once_by_who_reads_it_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    rows = [bytes([i]) * 50_000 for i in range(40)]
    path.write_bytes(parquet_of({"image": rows}, use_dictionary=False, compression="none"))
    monkeypatch.setattr(table_reader, "BATCH_BYTES", 200_000)
    begun = 0
    begin = pq.ParquetFile.iter_batches

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal begun
        begun += 1
        return begin(*arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    reader = TableReader()
    uri, etag = f"file://{path}", stat(f"file://{path}").etag
    for first in range(0, 40, 8):
        assert list(reader.read(uri, etag, 0, range(first, first + 8))) == rows[first : first + 8]
    assert begun == 1
    assert list(reader.read(uri, etag, 0, [3])) == [rows[3]]
    assert begun == 2


def test_a_store_that_does_not_answer_is_asked_once_for_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def fail(uri: str) -> Any:
        nonlocal asked
        asked += 1
        raise StorageError(ErrorCode.FETCH_FAILED, "no answer")

    monkeypatch.setattr(table_reader, "stat", fail)
    parts = list(TableReader().read(f"file://{tmp_path}/a.parquet", "1", 0, range(9)))
    assert [str(part) for part in parts] == ["no answer"] * 9
    assert asked == 1


def test_rows_of_too_many_bytes_are_an_error_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_of({"image": [b"1", b"2" * 1000]}))
    uri, etag = f"file://{path}", stat(f"file://{path}").etag
    small, large = TableReader().read(uri, etag, 0, [0, 1], max_bytes=999)
    assert small == b"1"
    assert isinstance(large, DamagedShardError)
    assert large.code == "too_large"
