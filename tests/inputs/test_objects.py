"""What an input names: lists of objects and their classes (folders and inventories: elsewhere)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.inputs import objects as inputs
from pipeline.inputs.objects import LISTED_SCHEMA, read_input
from pipeline.storage import ObjectInfo, stat
from tests.bucket import put


def read(source: str | Path, **options: str) -> list[dict[str, Any]]:
    tables = list(read_input(str(source), **options))
    assert all(table.schema.equals(LISTED_SCHEMA) for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def write_list(path: Path, columns: dict[str, Any]) -> Path:
    frame = pd.DataFrame(columns)
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "images" / "bottle" / "1.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"bytes")
    return str(path)


def test_an_object_with_a_folders_name_is_one_of_its_objects(bucket: str) -> None:
    """It was left out without a word."""
    put(bucket, {"in/a.png": b"one", "in/a.png/z/2.png": b"two", "in/a.pngs": b"another"})
    found = {row["key"]: row["size"] for row in read(f"s3://{bucket}/in/a.png")}
    assert found == {"a.png": 3, "z/2.png": 3}
    put(bucket, {"in/b.tar": b"", "in/b.tar/1.png": b"x"})  # as tools mark a folder
    assert [row["key"] for row in read(f"s3://{bucket}/in/b.tar")] == ["1.png"]


def test_only_folders_that_are_called_like_files_take_a_request_more(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def counted(uri: str) -> ObjectInfo:
        asked.append(uri.removeprefix(f"s3://{bucket}"))
        return stat(uri)

    put(bucket, {"in/1.png": b"x", "v1.0/1.png": b"x", "x.d/1.png": b"x", "a.tif/1.png": b"x"})
    monkeypatch.setattr(inputs, "stat", counted)
    for folder in ("", "/in", "/v1.0", "/x.d", "/in/1.png", "/a.tif"):
        assert len(read(f"s3://{bucket}{folder}")) == (1 if folder else 4)
    assert asked == ["/a.tif"]


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".parquet"])
def test_a_list_names_objects_and_their_classes(
    suffix: str, image: str, tmp_path: Path, bucket: str
) -> None:
    put(bucket, {"odd, #+%20 key.png": b"x"})
    uris = [image, f"file://{image}", f"s3://{bucket}/odd, #+%20 key.png"]
    listing = {"uri": uris, "category": ["bottle", "007", "cable"], "extra": 1}
    rows = read(write_list(tmp_path / f"list{suffix}", listing))
    assert [(row["uri"], row["category"]) for row in rows] == [
        (f"file://{image}", "bottle"),
        (f"file://{image}", "007"),
        (f"s3://{bucket}/odd, #+%20 key.png", "cable"),
    ]
    info = stat(f"file://{image}")
    for row in rows[:2]:
        assert (row["etag"], row["size"], row["last_modified"]) == (
            info.etag,
            5,
            info.last_modified,
        )
        assert row["key"] == image.removeprefix("/")
    assert not any(row["error"] for row in rows)


def test_an_object_of_a_list_that_is_not_there_says_so(image: str, tmp_path: Path) -> None:
    rows = read(write_list(tmp_path / "list.csv", {"uri": [f"{image}.gone", image]}))
    assert [row["error"] for row in rows] == ["not_found", None]
    assert rows[0]["uri"] in rows[0]["error_message"]


def test_a_list_in_a_bucket_is_read(image: str, bucket: str) -> None:
    put(bucket, {"lists/a.csv": f"uri\n{image}\n".encode()})
    assert [row["uri"] for row in read(f"s3://{bucket}/lists/a.csv")] == [f"file://{image}"]


def test_a_list_may_have_another_column_for_the_class(image: str, tmp_path: Path) -> None:
    source = write_list(tmp_path / "l.csv", {"uri": [image], "product": "cable", "category": "no"})
    assert [row["category"] for row in read(source, category_column="product")] == ["cable"]


def test_a_class_column_asked_for_by_name_must_be_in_the_list(tmp_path: Path) -> None:
    source = write_list(tmp_path / "list.csv", {"uri": ["/a.jpg"]})
    with pytest.raises(ValueError, match=r"list\.csv has no column 'product'"):
        read(source, category_column="product")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_list_holds_any_key(suffix: str, tmp_path: Path) -> None:
    uris = [str(tmp_path / name) for name in ('new\nline",.png', "1 %#+?.png", "ü✓.png")]
    for uri in uris:
        Path(uri).write_bytes(b"x")
    rows = read(write_list(tmp_path / f"list{suffix}", {"uri": uris}))
    assert [row["uri"] for row in rows] == [f"file://{uri}" for uri in uris]
    assert not any(row["error"] for row in rows)


def test_a_large_list_with_line_breaks_in_its_values_is_read_whole(tmp_path: Path) -> None:
    uris = [f"{tmp_path}/missing/{i}.png" for i in range(150)]
    listing = {"uri": uris, "notes": "line\n" * 2000}  # more than a block of 1 MiB
    assert len(read(write_list(tmp_path / "list.csv", listing))) == 150


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_list_without_uris_is_refused_by_name(suffix: str, image: str, tmp_path: Path) -> None:
    source = write_list(tmp_path / f"list{suffix}", {"path": ["a"], "category": "b"})
    with pytest.raises(ValueError, match=r"list\..* no column 'uri'.*path, category"):
        read(source)
    write_list(source, {"uri": [image, None], "category": ["a", "b"]})
    with pytest.raises(ValueError, match=r"list\..* rows without a uri"):
        read(source)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_list_that_cannot_be_read_is_refused_by_name(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / f"list{suffix}"
    with pytest.raises(ValueError, match=rf"list{suffix}"):
        read(source)
    source.write_bytes(b"uri\nfine\na,b,c\n")
    with pytest.raises(ValueError, match=rf"list{suffix}"):
        read(source)


@pytest.mark.slow
def test_a_column_nobody_asked_for_costs_no_list(image: str, tmp_path: Path) -> None:
    lots = ["55"] * 59_999 + ["55A"]  # beyond the block of which types are guessed
    source = write_list(tmp_path / "list.csv", {"uri": [f"{image}.{i}" for i in range(60_000)]})
    lines = source.read_text().splitlines()
    source.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, ["lot", *lots], strict=True)))
    first = next(iter(read_input(str(source))))
    assert first["uri"][0].as_py() == f"file://{image}.0"
    batches = inputs._list_batches(str(source), "category")
    assert sum(len(names) for names, _ in batches) == 60_000


def test_bytes_in_a_column_nobody_asked_for_cost_no_list(image: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(f"uri,note\n{image},".encode() + b"\xff\n")
    assert [row["uri"] for row in read(tmp_path / "list.csv")] == [f"file://{image}"]


def test_a_header_with_a_blank_still_names_the_classes(image: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"lot, uri, category\n1, {image}, bottle\n")
    assert [(row["category"].strip(), row["error"]) for row in read(tmp_path / "list.csv")] == [
        ("bottle", None)
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_relative_names_are_relative_to_the_list(
    suffix: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    source = write_list(tmp_path / f"list{suffix}", {"uri": ["images/bottle/1.png"]})
    monkeypatch.chdir(elsewhere)
    assert [(row["uri"], row["error"]) for row in read(f"file://{source}")] == [
        (f"file://{image}", None)
    ]


def test_names_and_classes_in_binary_columns_are_read(image: str, tmp_path: Path) -> None:
    source = write_list(
        tmp_path / "list.parquet", {"uri": [image.encode()], "category": [b"bottle"]}
    )
    assert [(row["uri"], row["category"]) for row in read(source)] == [
        (f"file://{image}", "bottle")
    ]


@pytest.mark.parametrize("uris", [[b"\xff"], [["a.png"]], [{"a": 1}]])
def test_names_that_are_no_text_are_refused_by_name(uris: list[Any], tmp_path: Path) -> None:
    source = write_list(tmp_path / "list.parquet", {"uri": uris})
    with pytest.raises(ValueError, match=r"list\.parquet: the column 'uri' holds"):
        read(source)


@pytest.mark.parametrize("name", ["class", "Category", "cls_name"])
def test_a_column_that_looks_like_the_class_is_told(
    name: str, image: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(write_list(tmp_path / "list.csv", {"uri": [image], name: "bottle", "lot": 1}))
    assert f"the column {name!r} is not used; call it 'category'" in caplog.text
    assert "lot" not in caplog.text.replace("look", "")
