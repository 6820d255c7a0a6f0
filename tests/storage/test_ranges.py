"""Parts of objects: the right bytes, of the right version, or an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.schema import ErrorCode
from pipeline.storage import read_range, stat, write_object

from .calls import failure
from .server import Handler, answer, serving

DATA = bytes(range(256)) * 40


def test_any_part_of_an_object_is_read(root: str) -> None:
    uri = f"{root}/a #1.tar"
    write_object(uri, DATA)
    etag = stat(uri).etag
    for start, length in ((0, 1), (0, len(DATA)), (300, 700), (len(DATA) - 1, 1)):
        assert read_range(uri, etag, start, length) == DATA[start : start + length]


def test_another_version_is_told_by_its_code(root: str) -> None:
    uri = f"{root}/a.tar"
    write_object(uri, DATA)
    etag = stat(uri).etag
    write_object(uri, DATA[::-1])
    assert failure(read_range, uri, etag, 5, 5).code == ErrorCode.CHANGED


def test_an_object_that_became_shorter_was_changed(root: str) -> None:
    uri = f"{root}/a.tar"
    write_object(uri, DATA)
    etag = stat(uri).etag
    write_object(uri, b"short")
    assert failure(read_range, uri, etag, 1000, 10).code == ErrorCode.CHANGED


def test_a_missing_object_is_not_found(root: str) -> None:
    assert failure(read_range, f"{root}/none.tar", "1", 0, 1).code == ErrorCode.NOT_FOUND


def test_bytes_behind_the_end_are_an_error(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/a.tar"
    write_object(uri, DATA)
    error = failure(read_range, uri, stat(uri).etag, len(DATA) - 3, 10)
    assert error.code == ErrorCode.FETCH_FAILED
    assert "3 bytes came instead of 10" in str(error)


def test_a_server_that_gives_whole_objects_is_named(point_at: Callable[[str], None]) -> None:
    def whole(handler: Handler) -> None:
        answer(handler, DATA, ETag='"1"', Last_Modified="Sat, 01 Jan 2022 00:00:00 GMT")

    with serving(whole) as endpoint:
        point_at(endpoint)
        error = failure(read_range, "s3://b/a.tar", '"1"', 10, 10)
    assert error.code == ErrorCode.FETCH_FAILED
    assert "no ranges" in str(error)
