"""Writing and deleting: whole objects or none."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from pipeline.schema import ErrorCode
from pipeline.storage import (
    StorageError,
    conditional,
    create_object,
    delete_objects,
    read_object,
    replace_object,
    write_object,
)
from tests.bucket import put

from .calls import failure, listed


def test_writing_makes_folders_and_replaces(root: str) -> None:
    uri = f"{root}/new/folders/a.bin"
    write_object(uri, b"first")
    write_object(uri, b"second, longer")
    assert read_object(uri)[0] == b"second, longer"
    assert set(listed(root)) == {uri}


def test_a_local_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    uri = f"{tmp_path}/a.bin"
    write_object(uri, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        assert failure(write_object, uri, bytes(2**21)).code == ErrorCode.FETCH_FAILED
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["a.bin"]
    assert read_object(f"file://{uri}")[0] == b"old"


def test_written_files_have_the_users_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_object(str(tmp_path / "a.bin"), b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


def test_writing_where_nothing_can_be_written_is_an_error(
    tmp_path: Path, s3: dict[str, str]
) -> None:
    (tmp_path / "file").touch()
    for uri in (f"{tmp_path}/file/a.bin", "s3://missing-bucket/a.bin"):
        assert isinstance(failure(write_object, uri, b"x"), StorageError)


def test_deleting_removes_what_is_named_and_takes_missing_objects_for_deleted(root: str) -> None:
    uris = [f"{root}/d/{i}.png" for i in range(12)]
    for uri in uris:
        write_object(uri, b"x")
    delete_objects([*uris[:10], f"{root}/d/missing.png"])
    assert sorted(listed(root)) == sorted(uris[10:])
    delete_objects([])


def test_more_objects_are_deleted_than_fit_into_a_request(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditional, "DELETED_AT_ONCE", 3)
    put(bucket, {f"{i}.png": b"x" for i in range(8)})
    delete_objects(f"s3://{bucket}/{i}.png" for i in range(7))
    assert list(listed(f"s3://{bucket}")) == [f"s3://{bucket}/7.png"]


def test_deleting_where_there_is_no_bucket_is_not_found(s3: dict[str, str]) -> None:
    assert failure(delete_objects, ["s3://missing-bucket/a"]).code == ErrorCode.NOT_FOUND


def test_creating_is_conditional_on_other_file_systems_too() -> None:
    uri = f"memory://{uuid4().hex}/a"
    first = create_object(uri, b"1")
    assert first is not None
    assert create_object(uri, b"2") is None
    assert replace_object(uri, b"22", "another") is None
    assert replace_object(uri, b"333", first) is not None
    assert read_object(uri)[0] == b"333"


def test_an_object_may_say_what_it_is(bucket: str) -> None:
    """Else a browser that opens it from S3 downloads it."""
    write_object(f"s3://{bucket}/a.html", b"<p>", "text/html; charset=utf-8")
    head = boto3.client("s3").head_object(Bucket=bucket, Key="a.html")
    assert head["ContentType"] == "text/html; charset=utf-8"
    assert read_object(f"s3://{bucket}/a.html")[0] == b"<p>"
