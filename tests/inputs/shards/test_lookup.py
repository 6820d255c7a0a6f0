"""Members by their URI alone, in lists too."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import ScoreConfig
from pipeline.datasets import read_dataset
from pipeline.datasets.masks import read_masks
from pipeline.inputs.shards import file as shard_file
from pipeline.inputs.shards import read_named
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, read_range, stat, write_object
from tests.bucket import put
from tests.inputs.building import build, write

from .making import hugging_face, tar_of, zip_of

ONE, TWO = ("bolt/1.jpg", b"1"), ("bolt/2.jpg", b"22")
FILES = [("a/1.jpg", b"one"), ("a/../2#.jpg", b"two")]


@pytest.mark.parametrize("name", ["a.tar", "b.zip", "c.parquet"])
def test_members_are_read_by_name(name: str, bucket: str) -> None:
    make = {"a.tar": tar_of, "b.zip": zip_of, "c.parquet": hugging_face}[name]
    put(bucket, {name: make(FILES), f"{name}#a/3.jpg": b"an object of its own"})
    for key, data in FILES:
        assert read_named(f"s3://{bucket}/{name}#{key}") == data
    assert read_named(f"s3://{bucket}/{name}#a/3.jpg") == b"an object of its own"


def test_what_is_neither_object_nor_member_is_not_found(bucket: str, tmp_path: Path) -> None:
    put(bucket, {"a.tar": tar_of(FILES)})
    for uri in (
        f"s3://{bucket}/a.tar#none",
        f"s3://{bucket}/b.tar#a/1.jpg",
        f"file://{tmp_path}/b.jpg",
    ):
        with pytest.raises(StorageError) as caught:
            read_named(uri)
        assert caught.value.code == ErrorCode.NOT_FOUND
        assert uri in str(caught.value)


def test_what_can_not_be_read_of_a_shard_says_why(tmp_path: Path) -> None:
    """Links and compressed members were read as no bytes."""
    (tmp_path / "a.tar").write_bytes(tar_of([], links=[("soft.jpg", b"a.jpg")]))
    (tmp_path / "b.zip").write_bytes(zip_of(FILES[:1], zipfile.ZIP_DEFLATED))
    (tmp_path / "c.zip").write_bytes(zip_of(FILES)[:-1])
    for name, code, message in (
        ("a.tar#soft.jpg", ErrorCode.NOT_AN_IMAGE, "a symbolic link to 'a.jpg'"),
        ("b.zip#a/1.jpg", ErrorCode.UNSUPPORTED_MODE, "pack it with zip -0"),
        ("c.zip#a/1.jpg", ErrorCode.TRUNCATED, "its table of contents"),
    ):
        with pytest.raises(StorageError, match=message) as caught:
            read_named(f"file://{tmp_path}/{name}")
        assert caught.value.code == code


def test_names_never_lead_out_of_a_shard(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "in").mkdir()
    names = ["../secret.jpg", f"{tmp_path}/secret.jpg", "/../../secret.jpg"]
    (tmp_path / "in/a.tar").write_bytes(tar_of([(name, name.encode()) for name in names]))
    for name in names:
        assert read_named(f"file://{tmp_path}/in/a.tar#{name}") == name.encode()


def test_a_shard_is_listed_once_for_all_its_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []

    def recorded(uri: str, etag: str, start: int, length: int) -> bytes:
        requests.append(start)
        return read_range(uri, etag, start, length)

    monkeypatch.setattr(shard_file, "read_range", recorded)
    files = [(f"{i}.jpg", b"x" * 10_000) for i in range(20)]
    write_object(f"{tmp_path}/a.tar", tar_of(files))
    for name, data in files:
        assert read_named(f"file://{tmp_path}/a.tar#{name}") == data
    assert requests == sorted(set(requests))


def test_labelled_lists_may_name_images_and_masks_in_shards(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 255
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    write_object(
        f"{tmp_path}/a.tar", tar_of([("1.png", b"image"), ("1_mask.png", buffer.getvalue())])
    )
    text = b"uri,label,mask_uri\na.tar#1.png,1,a.tar#1_mask.png\n"
    write_object(f"{tmp_path}/list.csv", text)
    (row,) = read_dataset(f"{tmp_path}/list.csv").to_pylist()
    assert row["uri"] == f"file://{tmp_path}/a.tar#1.png"
    assert read_masks([row["mask_uri"]], 4, width=8, height=8).tolist() == [
        [1, 1, 1, 1],
        [1, 1, 1, 1],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_a_list_may_name_members(config: ScoreConfig, tmp_path: Path) -> None:
    write(tmp_path / "in/a.tar", tar_of([ONE, TWO]))
    write(tmp_path / "list.csv", b"uri\nin/a.tar#bolt/2.jpg\nin/a.tar#none.jpg\n")
    _, rows = build(replace(config, input=(str(tmp_path / "list.csv"),)))
    info = stat(f"file://{tmp_path}/in/a.tar")
    assert [(row["etag"], row["error"]) for row in rows] == [
        (f"{info.etag}#1536+2", None),
        (None, "not_found"),
    ]


def test_members_that_a_list_names_have_the_rows_that_their_shards_give(
    config: ScoreConfig, tmp_path: Path
) -> None:
    """Errors got lost on the way: links and compressed members were "empty"."""
    tar = tar_of([ONE, ("x/2.cls", b"gear"), ("x/2.jpg", b"2")], links=[("y/3.jpg", b"x/2.jpg")])
    write(tmp_path / "in/a.tar", tar)
    write(tmp_path / "in/b.zip", zip_of([ONE], zipfile.ZIP_DEFLATED))
    write(tmp_path / "in/c.zip", zip_of([("nut\\1.png", b"1")], system=0))
    write(tmp_path / "in/d.zip", b"PK\x03\x04" + b"no zip")
    _, rows = build(replace(config, input=(str(tmp_path / "in"),), category_level=-1))
    errors = {row["uri"].rpartition("/in/")[2]: row["error"] for row in rows}
    assert errors == {
        "a.tar#bolt/1.jpg": None,
        "a.tar#x/2.jpg": None,
        "a.tar#y/3.jpg": "not_an_image",
        "b.zip#bolt/1.jpg": "unsupported_mode",
        "c.zip#nut\\1.png": None,
        "d.zip": "truncated",
    }
    *members, _ = sorted(rows, key=lambda row: row["uri"])
    text = "uri\n" + "".join(f"{row['uri']}\n" for row in members)
    listing = write(tmp_path / "list.csv", text.encode())
    _, named = build(replace(config, input=(str(listing),), category_level=-1))
    assert named == members
    assert [row["category"] for row in named] == ["bolt", "gear", "y", "bolt", "nut"]


def test_members_that_a_list_names_of_a_damaged_shard_say_so(
    config: ScoreConfig, tmp_path: Path
) -> None:
    write(tmp_path / "a.tar", tar_of([ONE, TWO])[: 1536 + 1])
    write(tmp_path / "list.csv", b"uri\na.tar#bolt/1.jpg\na.tar#bolt/2.jpg\n")
    _, rows = build(replace(config, input=(str(tmp_path / "list.csv"),)))
    assert [row["error"] for row in rows] == [None, "truncated"]
    assert rows[1]["error_message"] == "the tar ends within 'bolt/2.jpg'; 1 files of it were read"
