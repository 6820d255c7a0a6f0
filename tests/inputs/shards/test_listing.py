"""Shards below an input: members in their place, in the manifest of a run as any object is."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config import ScoreConfig
from pipeline.identity import ModelIdentity
from pipeline.inputs.manifest import Manifest, holds_anything, pending_images
from pipeline.inputs.shards import file as shard_file
from pipeline.inputs.shards import read_version
from pipeline.output.layout import SHARD_INDEX
from pipeline.output.ledger import IdSet, ids_from_hex
from pipeline.output.lock import OutputLock
from pipeline.schema import ErrorCode
from pipeline.storage import ObjectInfo, StorageError, amazon, read_range, stat
from tests.bucket import put
from tests.inputs.building import IDENTITY, Rows, build, names, write

from .making import hugging_face, parquet_of, tar_of, zip_of

ONE, TWO = ("bolt/1.jpg", b"1"), ("bolt/2.jpg", b"22")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The ranges that are read of shards to list them: URI and length."""
    read: list[tuple[str, int]] = []

    def recorded(uri: str, etag: str, start: int, length: int) -> bytes:
        read.append((uri, length))
        return read_range(uri, etag, start, length)

    monkeypatch.setattr(shard_file, "read_range", recorded)
    return read


def by_name(rows: Rows) -> dict[str, dict[str, Any]]:
    return {row["uri"].rsplit("/", 1)[1]: row for row in rows}


def test_a_row_of_a_member_says_where_it_lies(config: ScoreConfig, images: Path) -> None:
    write(images / "x/a.tar", tar_of([ONE, TWO]))
    manifest, rows = build(replace(config, include=("*a.tar#*",)))
    info = stat(f"file://{images}/x/a.tar")
    first, second = rows
    assert first["uri"] == f"{info.uri}#bolt/1.jpg"
    assert (first["etag"], first["size"]) == (f"{info.etag}#512+1", 1)
    assert (second["etag"], second["size"]) == (f"{info.etag}#1536+2", 2)
    assert first["last_modified"] == info.last_modified
    assert (manifest.listed, manifest.excluded) == (2, 4)


def test_objects_keep_their_rows_beside_shards(config: ScoreConfig, images: Path) -> None:
    _, before = build(config)
    write(images / "a.TAR", tar_of([ONE]))
    write(images / "b.zip", zip_of([ONE]))
    write(images / "bottle/c.parquet", hugging_face([ONE]))
    _, rows = build(config)
    assert [row for row in rows if "#" not in row["uri"]] == before
    assert sorted(row["uri"] for row in rows if "#" in row["uri"]) == [
        f"file://{images}/{key}#bolt/1.jpg" for key in ("a.TAR", "b.zip", "bottle/c.parquet")
    ]


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.parquet"])
def test_a_shard_may_be_an_input(name: str, config: ScoreConfig, tmp_path: Path) -> None:
    make = {"a.tar": tar_of, "a.zip": zip_of, "a.parquet": hugging_face}[name]
    write(tmp_path / "in" / name, make([ONE, TWO]))
    config = replace(config, input=(str(tmp_path / "in" / name),))
    assert holds_anything(config)
    _, rows = build(config)
    assert [row["uri"].rpartition("#")[2] for row in rows] == ["bolt/1.jpg", "bolt/2.jpg"]
    assert {row["category"] for row in rows} == {"bolt"}


def test_a_parquet_input_with_a_column_uri_stays_a_list(
    config: ScoreConfig, images: Path, tmp_path: Path
) -> None:
    uri = f"file://{images}/bottle/1.png"
    write(tmp_path / "list.parquet", parquet_of({"uri": [uri], "image": [b"bytes"]}))
    _, rows = build(replace(config, input=(str(tmp_path / "list.parquet"),)))
    assert [row["uri"] for row in rows] == [uri]


def test_a_parquet_input_without_either_names_its_columns(
    config: ScoreConfig, tmp_path: Path
) -> None:
    write(tmp_path / "a.parquet", parquet_of({"x": [1], "y": ["z"]}))
    with pytest.raises(ValueError, match=r"no column 'uri'.*no column holds images .*x, y"):
        build(replace(config, input=(str(tmp_path / "a.parquet"),)))


def test_folders_of_the_shard_and_in_it_are_those_of_the_category_rule(
    config: ScoreConfig, tmp_path: Path
) -> None:
    shards = tmp_path / "in"
    write(shards / "line 1/a.tar", tar_of([("bolt/x/1.jpg", b"1"), ("2.jpg", b"2")]))
    write(shards / "b.tar", tar_of([("nut/3.jpg", b"3"), ("4.jpg", b"4"), ("/5.jpg", b"5")]))
    config = replace(config, input=(str(shards),))

    def found(**rule: Any) -> dict[str, str | None]:
        rows = build(replace(config, **rule))[1]
        return {row["uri"][-5]: row["category"] for row in rows}

    assert found() == {"1": "line 1", "2": "line 1", "3": "nut", "4": "object", "5": "object"}
    assert found(category_level=-1)["1"] == "x"
    assert found(category_level=1) == {"1": "bolt", **dict.fromkeys("2345", "object")}
    assert set(found(category_regex=r"/(?P<category>[^/]+)\.tar#").values()) == {"a", "b"}
    assert set(found(category="gear").values()) == {"gear"}


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.parquet"])
def test_dots_in_a_members_name_are_no_folders_and_stay_in_its_uri(
    name: str, config: ScoreConfig, tmp_path: Path
) -> None:
    """``tar cf a.tar -C photos .`` gave all its images the class "."."""
    make = {"a.tar": tar_of, "a.zip": zip_of, "a.parquet": hugging_face}[name]
    files = [("./bolt/1.jpg", b"1"), ("../nut/2.jpg", b"2"), ("./3.jpg", b"3")]
    path = write(tmp_path / "in" / name, make(files))
    _, rows = build(replace(config, input=(str(tmp_path / "in"),)))
    found = {row["uri"].removeprefix(f"file://{path}#"): row["category"] for row in rows}
    assert found == {"./bolt/1.jpg": "bolt", "../nut/2.jpg": "nut", "./3.jpg": "object"}
    assert [read_version(row["uri"], row["etag"]) for row in rows] == [b"1", b"2", b"3"]


def test_backslashes_of_a_zip_from_windows_part_folders_of_the_category_rule(
    config: ScoreConfig, tmp_path: Path
) -> None:
    files = [("bolt\\x\\1.png", b"1"), ("nut/x\\2.png", b"2"), ("3.png", b"3")]
    found = {}
    for system in (0, 3):  # DOS and Windows; Unix, where a name may hold a backslash
        path = write(tmp_path / f"{system}.zip", zip_of(files, system=system))
        for level in (0, -1):
            chosen = replace(config, input=(str(path),), category_level=level)
            rows = build(chosen)[1]
            assert [row["uri"].partition("#")[2] for row in rows] == [name for name, _ in files]
            found[system, level] = [row["category"] for row in rows]
    assert found[0, 0] == ["bolt", "nut", "object"]
    assert found[0, -1] == ["x", "nut", "object"]
    assert found[3, 0] == found[3, -1] == ["object", "nut", "object"]


def test_side_files_win_over_folders_and_a_lists_class_over_both(
    config: ScoreConfig, tmp_path: Path
) -> None:
    write(tmp_path / "in/x/a.tar", tar_of([("y/1.cls", b"gear"), ("y/1.jpg", b"1")]))
    _, rows = build(replace(config, input=(str(tmp_path / "in"),)))
    assert [row["category"] for row in rows] == ["gear"]
    write(tmp_path / "list.csv", b"uri,category\nin/x/a.tar,bolt\n")
    _, rows = build(replace(config, input=(str(tmp_path / "list.csv"),)))
    assert [row["category"] for row in rows] == ["bolt"]


def test_globs_see_members_and_an_excluded_shard_is_not_read(
    config: ScoreConfig, images: Path, requests: list[tuple[str, int]]
) -> None:
    write(images / "x/a.tar", tar_of([ONE, TWO, ("2.png", b"3")]))
    write(images / "x/b.tar", tar_of([ONE]))

    def found(**globs: tuple[str, ...]) -> list[str]:
        return names(build(replace(config, **globs))[1])

    assert found(include=("*.jpg",), exclude=("x/b*",)) == ["1.jpg", "2.jpg", "3.JPG"]
    assert {uri for uri, _ in requests} == {f"file://{images}/x/a.tar"}
    assert found(include=("x/A.tar#*",)) == ["1.jpg", "2.jpg", "a.tar#2.png"]
    assert found(include=("*/a.tar",)) == ["1.jpg", "2.jpg", "a.tar#2.png"]
    assert found(include=("x/*",), exclude=("*.tar#bolt/1*",)) == ["2.jpg", "a.tar#2.png"]
    manifest, _ = build(replace(config, exclude=("*.tar",)))
    assert (manifest.listed, manifest.excluded) == (4, 2)


def test_since_is_the_time_of_the_shard(
    config: ScoreConfig, images: Path, requests: list[tuple[str, int]]
) -> None:
    write(images / "old.tar", tar_of([ONE]))
    old = (datetime.now(UTC) - timedelta(days=9)).timestamp()
    os.utime(images / "old.tar", (old, old))
    write(images / "new.tar", tar_of([TWO]))
    _, rows = build(replace(config, since="2d", include=("*#*",)))
    assert names(rows) == ["2.jpg"]
    assert {uri for uri, _ in requests} == {f"file://{images}/new.tar"}


def test_limit_ends_within_a_shard_and_the_next_run_goes_on(
    config: ScoreConfig, tmp_path: Path
) -> None:
    write(tmp_path / "in/a.tar", tar_of([(f"{i:02}.jpg", b"x") for i in range(10)]))
    config = replace(config, input=(str(tmp_path / "in"),), limit=4)
    found: Rows = []
    for _ in range(3):
        done = IdSet()  # the ledger, as the next run reads it
        done.add_new(ids_from_hex(pa.array([row["image_id"] for row in found], pa.string())))
        found += build(config, done)[1]
    assert [row["uri"][-6:] for row in found] == [f"{i:02}.jpg" for i in range(10)]


def test_members_that_are_done_are_skipped_and_those_of_a_new_version_are_not(
    config: ScoreConfig, tmp_path: Path
) -> None:
    config = replace(config, input=(str(tmp_path / "in"),))
    write(tmp_path / "in/a.tar", tar_of([ONE, TWO]))
    done = IdSet()
    _, rows = build(config)
    done.add_new(ids_from_hex(pa.array([rows[0]["image_id"]])))
    manifest, rest = build(config, done)
    assert rest == rows[1:]
    assert manifest.skipped == 1
    write(tmp_path / "in/a.tar", tar_of([ONE, TWO, ("3.jpg", b"3")]))
    assert len(build(config, done)[1]) == 3


def test_headers_are_read_once(
    config: ScoreConfig, images: Path, requests: list[tuple[str, int]]
) -> None:
    for name in ("a.tar", "b.zip", "c.parquet", "no.tar", "cut.tar"):
        write(images / name, tar_of([ONE]))
    write(images / "b.zip", zip_of([ONE]))
    write(images / "c.parquet", hugging_face([ONE]))
    write(images / "no.tar", b"\x89PNG" * 900)
    write(images / "cut.tar", tar_of([ONE])[:600])
    _, first = build(config)
    assert {uri.rpartition("/")[2] for uri, _ in requests} == {
        *("a.tar", "b.zip", "c.parquet", "no.tar", "cut.tar")
    }
    requests.clear()
    assert build(config)[1] == first
    assert requests == []
    files = os.listdir(Path(config.output, SHARD_INDEX))
    assert len(files) == 5
    write(images / "a.tar", tar_of([ONE, TWO]))
    build(config)
    assert {uri.rpartition("/")[2] for uri, _ in requests} == {"a.tar"}


def test_who_only_looks_writes_no_index(config: ScoreConfig, images: Path) -> None:
    write(images / "a.tar", tar_of([ONE]))
    list(pending_images(config, IDENTITY, IdSet(), Manifest("")))
    assert not Path(config.output).exists()


def test_a_damaged_index_is_made_anew(config: ScoreConfig, images: Path) -> None:
    write(images / "a.tar", tar_of([ONE]))
    _, rows = build(config)
    for path in Path(config.output, SHARD_INDEX).iterdir():
        path.write_bytes(b"half")
    assert build(config)[1] == rows


def test_indexes_and_tables_of_outputs_below_an_input_are_left_out(
    config: ScoreConfig, images: Path
) -> None:
    write(images / "a.tar", tar_of([ONE]))
    config = replace(config, output=str(images / "out"))
    other = images / "other"
    with OutputLock(str(other), run_id="r"):
        pass
    write(other / SHARD_INDEX / f"{'0' * 32}.parquet", parquet_of({"image": [b"no image"]}))
    write(other / "maps/scan_date=2026-01-01/a.parquet", parquet_of({"image": [b"no image"]}))
    _, first = build(config)
    manifest, rows = build(config)
    assert rows == first
    assert names(rows) == ["1.jpg", "1.png", "2.png", "3.JPG", "top.png"]
    assert manifest.other_outputs == {f"file://{other}": 3}


def test_a_damaged_shard_has_a_row_that_is_final(config: ScoreConfig, images: Path) -> None:
    data = tar_of([ONE, TWO])
    write(images / "a.tar", data[: 1536 + 1])
    _, rows = build(replace(config, include=("a.tar",)))
    member, shard = rows
    assert member["uri"] == f"file://{images}/a.tar#bolt/1.jpg"
    info = stat(f"file://{images}/a.tar")
    assert (shard["uri"], shard["etag"], shard["size"]) == (info.uri, info.etag, info.size)
    assert shard["error"] == "truncated"
    assert shard["error_message"] == "the tar ends within 'bolt/2.jpg'; 1 files of it were read"


def test_a_shard_that_is_no_shard_is_the_object_that_it_was(
    config: ScoreConfig, images: Path
) -> None:
    write(images / "bottle/photo.tar", b"\xff\xd8\xff" * 900)
    write(images / "bottle/empty.tar", b"")
    rows = by_name(build(config)[1])
    assert rows["photo.tar"]["error"] is None
    assert rows["photo.tar"]["category"] == "bottle"
    assert rows["photo.tar"]["etag"] == stat(f"file://{images}/bottle/photo.tar").etag
    assert rows["empty.tar"]["size"] == 0


def test_a_shard_that_is_replaced_while_it_is_listed_is_a_row_and_not_kept(
    config: ScoreConfig, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(images / "a.tar", tar_of([ONE]))

    def replaced(uri: str, etag: str, start: int, length: int) -> bytes:
        write(images / "a.tar", tar_of([ONE, TWO, ONE]))
        return read_range(uri, etag, start, length)

    monkeypatch.setattr(shard_file, "read_range", replaced)
    row = by_name(build(config)[1])["a.tar"]
    assert row["error"] == "changed"
    monkeypatch.undo()
    assert len(build(config)[1]) == 4 + 3


def test_a_shard_that_can_not_be_read_is_a_row_and_tried_again(
    config: ScoreConfig, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(images / "a.tar", tar_of([ONE]))

    def fail(uri: str, etag: str, start: int, length: int) -> bytes:
        raise StorageError(ErrorCode.ACCESS_DENIED, "no")

    monkeypatch.setattr(shard_file, "read_range", fail)
    assert by_name(build(config)[1])["a.tar"]["error"] == "access_denied"
    monkeypatch.undo()
    assert names(build(replace(config, include=("a.tar",)))[1]) == ["1.jpg"]


def test_archived_shards_are_not_read(
    bucket: str, config: ScoreConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, {"in/a.tar": tar_of([ONE]), "in/b.tar": tar_of([TWO])})
    listed = amazon._info

    def archived(bucket: str, entry: Any) -> ObjectInfo:
        return listed(
            bucket, entry | {"StorageClass": "GLACIER"} if "a.t" in entry["Key"] else entry
        )

    monkeypatch.setattr(amazon, "_info", archived)
    _, rows = build(replace(config, input=(f"s3://{bucket}/in",)))
    assert {row["uri"].removeprefix(f"s3://{bucket}/in/"): row["error"] for row in rows} == {
        "a.tar": "archived",
        "b.tar#bolt/2.jpg": None,
    }


def test_keys_that_hold_the_mark_themselves_are_told_apart(
    bucket: str, config: ScoreConfig
) -> None:
    objects = {
        "in/a.tar#bolt/1.jpg": b"an object",
        "in/a.tar": tar_of([ONE]),
        "in/x.tar#y.tar": tar_of([TWO]),
    }
    put(bucket, objects)
    _, rows = build(replace(config, input=(f"s3://{bucket}/in",)))
    assert len({row["image_id"] for row in rows}) == 3
    assert sorted(row["uri"].removeprefix(f"s3://{bucket}/in/") for row in rows) == [
        "a.tar#bolt/1.jpg",
        "a.tar#bolt/1.jpg",
        "x.tar#y.tar#bolt/2.jpg",
    ]


def test_small_members_are_listed_in_few_requests_and_large_ones_are_skipped(
    config: ScoreConfig, tmp_path: Path, requests: list[tuple[str, int]]
) -> None:
    write(tmp_path / "in/small.tar", tar_of([(f"{i}.jpg", bytes(4000)) for i in range(5000)]))
    write(tmp_path / "in/photos.tar", tar_of([(f"{i}.jpg", bytes(300_000)) for i in range(200)]))
    write(tmp_path / "in/large.tar", tar_of([(f"{i}.jpg", bytes(1 << 22)) for i in range(5)]))
    build(replace(config, input=(str(tmp_path / "in"),)))
    sizes: dict[str, list[int]] = {"small.tar": [], "photos.tar": [], "large.tar": []}
    for uri, length in requests:
        sizes[uri.rpartition("/")[2]].append(length)
    assert len(sizes["small.tar"]) <= 10
    assert sum(sizes["small.tar"]) <= 5001 * 4608 + 20_000
    assert len(sizes["photos.tar"]) <= 20
    assert sum(sizes["large.tar"]) < 1 << 20


def test_models_of_another_name_list_the_same_members(config: ScoreConfig, images: Path) -> None:
    write(images / "a.tar", tar_of([ONE]))
    rows = pa.concat_tables(
        pending_images(config, ModelIdentity("other"), IdSet(), Manifest(""))
    ).to_pylist()
    assert len(rows) == 5
