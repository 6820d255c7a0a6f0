"""The read stage over members of shards: their pixels, in few requests, in bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config import ScoreConfig
from pipeline.distributed.reader import read_images
from pipeline.identity import ModelIdentity
from pipeline.images import decode, to_square
from pipeline.inputs.manifest import Manifest, pending_images
from pipeline.inputs.shards import reading
from pipeline.output.ledger import IdSet
from pipeline.schema import pixel_schema
from pipeline.storage import REPLACED, read_range, write_object
from tests.bucket import jpeg
from tests.inputs.shards.making import hugging_face, parquet_of, tar_of, zip_of

SIZE = 12
Row = dict[str, Any]
IMAGES = [(f"bolt/{i}.jpg", jpeg(i, size=(60 + i, 40))) for i in range(6)]


@pytest.fixture(params=["local", "bucket", "seaweedfs_bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty folder: on a disk, and on two S3 servers over HTTP."""
    if request.param == "local":
        return f"file://{tmp_path}/in"
    return f"s3://{request.getfixturevalue(request.param)}"


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges of tars and zips that are fetched: start and length."""
    made: list[tuple[int, int]] = []

    def recorded(uri: str, etag: str, start: int, length: int) -> bytes:
        made.append((start, length))
        return read_range(uri, etag, start, length)

    monkeypatch.setattr(reading, "read_range", recorded)
    return made


def manifest(root: str, tmp_path: Path) -> pa.Table:
    config = ScoreConfig(input=(root,), output=str(tmp_path / "out"))
    tables = list(pending_images(config, ModelIdentity("m"), IdSet(), Manifest("")))
    return pa.concat_tables(tables).sort_by("uri")


def read(rows: pa.Table, **options: Any) -> list[Row]:
    options = {"image_size": SIZE, "max_megapixels": 100.0} | options
    tables = list(read_images(rows, **options))
    assert all(table.schema.equals(pixel_schema(SIZE)) for table in tables)
    return [row for table in tables for row in table.to_pylist()]


SHARDS: dict[str, Callable[[Any], bytes]] = {
    "a.tar": tar_of,
    "b.zip": zip_of,
    "c.parquet": hugging_face,
}


@pytest.mark.parametrize("name", SHARDS)
def test_members_have_the_pixels_that_objects_would_have(
    name: str, root: str, tmp_path: Path
) -> None:
    write_object(f"{root}/{name}", SHARDS[name](IMAGES))
    done = read(manifest(root, tmp_path))
    assert [row["uri"] for row in done] == [f"{root}/{name}#{key}" for key, _ in IMAGES]
    for row, (_, data) in zip(done, IMAGES, strict=True):
        assert row["pixels"] == to_square(decode(data), SIZE).pixels.tobytes()
        assert row["size"] == len(data)
        assert row["category"] == "bolt"


@pytest.mark.parametrize("name", SHARDS)
def test_a_damaged_member_is_one_row(name: str, root: str, tmp_path: Path) -> None:
    files = [IMAGES[0], ("bolt/cut.jpg", IMAGES[1][1][:300]), ("bolt/note", b"text"), IMAGES[2]]
    write_object(f"{root}/{name}", SHARDS[name](files))
    rows = manifest(root, tmp_path)
    found = {row["uri"].rpartition("/")[2]: row["error"] for row in read(rows)}
    assert found == {"0.jpg": None, "cut.jpg": "truncated", "note": "not_an_image", "2.jpg": None}


@pytest.mark.parametrize("name", SHARDS)
def test_a_shard_that_was_replaced_is_told_by_each_of_its_rows(
    name: str, root: str, tmp_path: Path
) -> None:
    write_object(f"{root}/{name}", SHARDS[name](IMAGES))
    rows = manifest(root, tmp_path)
    write_object(f"{root}/{name}", SHARDS[name](IMAGES[1:]))
    done = read(rows)
    assert {row["error"] for row in done} == {"changed"}
    assert {row["error_message"] for row in done} == {REPLACED}


def test_members_side_by_side_come_in_one_request(
    tmp_path: Path, requests: list[tuple[int, int]]
) -> None:
    write_object(f"{tmp_path}/in/a.tar", tar_of(IMAGES))
    rows = manifest(f"{tmp_path}/in", tmp_path)
    assert not any(row["error"] for row in read(rows))
    assert len(requests) == 1
    requests.clear()
    assert not any(row["error"] for row in read(rows.take([5, 0, 3])))
    assert len(requests) == 2, "0 and 3 lie near each other"


def test_requests_are_bounded_and_gaps_are_not_read(
    tmp_path: Path, requests: list[tuple[int, int]]
) -> None:
    files = [("a.jpg", IMAGES[0][1]), ("gap.bin", bytes(1 << 20)), ("b.jpg", IMAGES[1][1])]
    files += [(f"{i}.bin", bytes(900_000)) for i in range(10)]
    write_object(f"{tmp_path}/in/a.tar", tar_of(files))
    rows = manifest(f"{tmp_path}/in", tmp_path)
    images = rows.filter(pa.compute.match_substring(rows["uri"], ".jpg"))
    assert [row["error"] for row in read(images)] == [None, None]
    assert [length for _, length in requests] == [len(data) for _, data in (files[0], files[2])]
    requests.clear()
    read(rows.take(pa.compute.sort_indices(rows["etag"])))
    assert max(length for _, length in requests) <= reading.SPAN_BYTES


def test_members_of_two_shards_that_look_alike_are_not_mixed_up(tmp_path: Path) -> None:
    """Two files of one size and time have equal versions: the name tells them apart."""
    for name, images in (("a.tar", IMAGES[:1]), ("b.tar", [("bolt/0.jpg", jpeg(77, (60, 40)))])):
        write_object(f"{tmp_path}/in/{name}", tar_of(images).ljust(20_480, b"\0"))
        os.utime(tmp_path / "in" / name, (1_000_000_000, 1_000_000_000))
    first, second = read(manifest(f"{tmp_path}/in", tmp_path))
    assert first["etag"].rpartition("#")[0] == second["etag"].rpartition("#")[0]
    assert first["pixels"] != second["pixels"]


def test_objects_whose_keys_hold_the_mark_are_read_and_so_are_their_members(
    root: str, tmp_path: Path
) -> None:
    images = dict(IMAGES)
    write_object(f"{root}/a.tar#bolt/0.jpg", images["bolt/0.jpg"])
    write_object(f"{root}/a.tar#b.tar", tar_of(IMAGES[1:3]))
    done = read(manifest(root, tmp_path))
    assert [row["width"] for row in done] == [61, 62, 60]
    if root.startswith("s3://"):  # on a disk, "a.tar#bolt" is a folder
        write_object(f"{root}/a.tar", tar_of([("bolt/0.jpg", images["bolt/5.jpg"])]))
        done = read(manifest(root, tmp_path))
        assert sorted(row["width"] for row in done) == [60, 61, 62, 65]


def test_empty_and_too_large_members_are_not_fetched(
    tmp_path: Path, requests: list[tuple[int, int]]
) -> None:
    files = [("empty.jpg", b""), ("large.jpg", bytes(9_000))]
    write_object(f"{tmp_path}/in/a.tar", tar_of(files))
    write_object(f"{tmp_path}/in/b.parquet", parquet_of({"image": [b"", bytes(9_000), None]}))
    found = read(manifest(f"{tmp_path}/in", tmp_path), max_megapixels=0.001)
    errors = {row["uri"].rpartition("#")[2]: row["error"] for row in found}
    assert errors == {
        "empty.jpg": "empty",
        "large.jpg": "too_large",
        "0": "empty",
        "1": "too_large",
        "2": "empty",
    }
    assert requests == []


LARGE = 10 << 30
SMALL_READER = """
import resource, sys
import pyarrow as pa
from pipeline.config import ScoreConfig
from pipeline.distributed.reader import read_images
from pipeline.identity import ModelIdentity
from pipeline.inputs.manifest import Manifest, pending_images
from pipeline.output.ledger import IdSet

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak()
config = ScoreConfig(input=(sys.argv[1],), output=sys.argv[1] + "-out")
rows = pa.concat_tables(pending_images(config, ModelIdentity("m"), IdSet(), Manifest("")))
errors = {}
for block in read_images(rows, image_size=12, max_megapixels=100.0):
    for row in block.to_pylist():
        errors[row["uri"].rpartition("#")[2]] = row["error"]
print(peak() - before, errors)
"""


def memory_of_reading(folder: Path) -> tuple[int, dict[str, str | None]]:
    command = [sys.executable, "-c", SMALL_READER, str(folder)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    memory, _, errors = told.partition(" ")
    return int(memory), eval(errors)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_shard_of_ten_gigabytes_is_read_in_little_memory(kind: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / f"a.{kind}"
    if kind == "tar":
        with path.open("wb") as file:
            for i in range(4):
                header = tarfile.TarInfo(f"{i}.bin")
                header.size = LARGE // 4
                file.write(header.tobuf(tarfile.GNU_FORMAT))
                file.seek(header.size, os.SEEK_CUR)  # sparse on the disk
                file.write(tar_of([IMAGES[i]])[: -(-len(IMAGES[i][1]) // 512) * 512 + 512])
            file.write(bytes(1024))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(*IMAGES[0])
        data = path.read_bytes()
        end = data.index(b"PK\x01\x02")
        with path.open("wb") as file:  # its contents stand behind a hole
            file.write(data[:end])
            file.seek((1 << 32) - (1 << 16))
            moved = bytearray(data[end:])
            moved[-6:-2] = ((1 << 32) - (1 << 16)).to_bytes(4, "little")
            file.write(moved)
    memory, errors = memory_of_reading(tmp_path / "in")
    images = [name for name, _ in (IMAGES[:4] if kind == "tar" else IMAGES[:1])]
    large = [f"{i}.bin" for i in range(4)] if kind == "tar" else []
    assert errors == dict.fromkeys(images) | dict.fromkeys(large, "too_large")
    assert memory < 200 * 2**20


def test_a_row_group_of_a_gigabyte_is_read_in_a_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    column = pa.array([IMAGES[0][1] + bytes(1 << 20)], pa.binary()).take(pa.array([0] * 16))
    schema = pa.schema([("image", pa.binary())])
    options = {"use_dictionary": False, "compression": "none", "data_page_size": 1 << 20}
    with pa.parquet.ParquetWriter(
        tmp_path / "in/a.parquet", schema, write_batch_size=16, **options
    ) as writer:
        group = pa.chunked_array([column] * 64)
        writer.write_table(pa.table({"image": group}), row_group_size=len(group))
    assert (tmp_path / "in/a.parquet").stat().st_size > 1 << 30
    memory, errors = memory_of_reading(tmp_path / "in")
    assert len(errors) == 1024
    assert set(errors.values()) == {None}
    assert memory < 300 * 2**20
