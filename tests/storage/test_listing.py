"""Listing: the same promises on a local folder and on a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest

from pipeline.schema import ErrorCode
from pipeline.storage import (
    absolute,
    access,
    amazon,
    list_objects,
    read_object,
    stat,
    write_object,
)
from tests.bucket import put

from .calls import failure, list_all, listed
from .server import Handler, answer, serving

ODD_NAMES = [
    "with space.png",
    "100%.png",
    "%2B.png",
    "a#b.png",
    "a+b.png",
    "a?b=c.png",
    "a::b.png",
    "ünï ✓.png",
    "tilde~<&>'\".png",
    "tab\t.png",
]
NEW_LINE = "new\nline.png"


def test_a_listing_holds_every_object_at_every_depth(root: str) -> None:
    keys = ["top.png", "a/1.png", "a/2.png", "a/b/c/d/deep.png", "z/1.png"]
    for key in keys:
        write_object(f"{root}/{key}", key.encode())
    found = listed(root)
    assert set(found) == {f"{root}/{key}" for key in keys}
    for key in keys:
        info = found[f"{root}/{key}"]
        assert info.size == len(key)
        assert info.etag
        assert info.last_modified is not None
        assert abs(info.last_modified.timestamp() - time.time()) < 600


def test_a_listing_goes_on_after_the_first_page_and_covers_many_prefixes(bucket: str) -> None:
    keys = [f"flat/{i:02}" for i in range(25)] + [f"many/{i % 40:02}/{i}" for i in range(50)]
    put(bucket, dict.fromkeys(keys, b"x"))
    events, name = access.s3_client().meta.events, "provide-client-params.s3.ListObjectsV2"
    events.register(name, ten_keys_a_page, unique_id="ten")
    try:
        assert set(listed(f"s3://{bucket}")) == {f"s3://{bucket}/{key}" for key in keys}
        assert len(listed(f"s3://{bucket}/flat")) == 25
        assert len(listed(f"s3://{bucket}/many/")) == 50
        assert max(map(len, list_objects(f"s3://{bucket}"))) == 10
    finally:
        events.unregister(name, unique_id="ten")


def ten_keys_a_page(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    """What a real server does at 1,000 keys."""
    return {**params, "MaxKeys": 10}


def test_a_folder_is_not_a_prefix_of_other_names(root: str) -> None:
    for key in ("dir/a.png", "dir2/b.png", "dir.png"):
        write_object(f"{root}/{key}", b"x")
    assert set(listed(f"{root}/dir")) == {f"{root}/dir/a.png"}
    assert set(listed(f"{root}/dir/")) == {f"{root}/dir/a.png"}


def test_a_single_object_lists_itself(root: str) -> None:
    write_object(f"{root}/dir/a.png", b"x")
    write_object(f"{root}/dir/a.png.txt", b"x")
    assert listed(f"{root}/dir/a.png") == {f"{root}/dir/a.png": stat(f"{root}/dir/a.png")}


def test_folder_markers_are_left_out_and_empty_objects_are_not(bucket: str) -> None:
    put(bucket, {"dir/": b"", "dir/sub/": b"", "dir/empty.png": b"", "dir/odd/": b"content"})
    found = listed(f"s3://{bucket}")
    assert {uri: info.size for uri, info in found.items()} == {
        f"s3://{bucket}/dir/empty.png": 0,
        f"s3://{bucket}/dir/odd/": 7,
    }
    assert read_object(f"s3://{bucket}/dir/odd/")[0] == b"content"


def test_empty_local_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    assert [info.size for info in listed(str(tmp_path)).values()] == [0]


def test_a_prefix_without_objects_lists_nothing(bucket: str) -> None:
    assert listed(f"s3://{bucket}") == {}
    assert listed(f"s3://{bucket}/nothing/here") == {}


def test_double_slashes_stay_in_keys(bucket: str) -> None:
    keys = ["dir//double.png", "//leading.png", "dir/./dot.png", "dir/../up.png"]
    put(bucket, {key: key.encode() for key in keys})
    assert set(listed(f"s3://{bucket}")) == {f"s3://{bucket}/{key}" for key in keys}
    for key in keys[:2]:
        assert read_object(f"s3://{bucket}/{key}")[0] == key.encode()


def test_any_character_may_stand_in_a_key(root: str) -> None:
    names = ODD_NAMES + ([NEW_LINE] if root.startswith("file") else [])  # moto refuses that one
    uris = {f"{root}/dir/{name}" for name in names}
    for uri in uris:
        write_object(uri, uri.encode())
    found = listed(f"{root}/dir")
    assert set(found) == uris
    for uri in uris:
        assert stat(uri) == found[uri]
        assert read_object(uri) == (uri.encode(), found[uri].etag)


def test_a_line_break_may_stand_in_an_s3_key(point_at: Callable[[str], None]) -> None:
    def get(handler: Handler) -> None:
        url = urlsplit(handler.path)
        if url.query:
            assert "encoding-type=url" in url.query
            contents = (
                f"<Contents><Key>dir/{quote(NEW_LINE)}</Key><ETag>&quot;e&quot;</ETag>"
                "<Size>5</Size><LastModified>2025-01-31T00:00:00Z</LastModified></Contents>"
            )
            answer(
                handler,
                f"<ListBucketResult><EncodingType>url</EncodingType>"
                f"<IsTruncated>false</IsTruncated>{contents}</ListBucketResult>".encode(),
            )
        else:
            answer(handler, unquote(url.path).encode(), ETag='"e"')

    with serving(get) as endpoint:
        point_at(endpoint)
        (uri,) = listed("s3://bucket/dir")
        assert uri == f"s3://bucket/dir/{NEW_LINE}"
        assert read_object(uri) == (f"/bucket/dir/{NEW_LINE}".encode(), '"e"')


def test_a_file_name_that_is_no_unicode_lists_escaped_and_is_not_found(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png")).write_bytes(b"x")
    (uri,) = listed(str(tmp_path))
    assert uri.encode("utf-8").endswith(b".png")
    assert failure(read_object, uri).code == ErrorCode.NOT_FOUND


def test_linked_files_have_one_version_in_listing_stat_and_read(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "target.png"
    target.parent.mkdir()
    target.write_bytes(b"pixels")
    os.utime(target, (1e9, 1e9))
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "link.png").symlink_to(target)
    uri = f"file://{folder}/link.png"
    found = listed(str(folder))
    assert found == {uri: stat(uri)}
    assert read_object(uri) == (b"pixels", found[uri].etag)


def test_links_to_a_folder_or_to_nothing_are_listed_and_not_found(tmp_path: Path) -> None:
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    (tmp_path / "folder").symlink_to(tmp_path)
    found = listed(str(tmp_path))
    assert set(found) == {f"file://{tmp_path}/broken.png", f"file://{tmp_path}/folder"}
    for uri, info in found.items():
        assert info.size > 0, "or it would count as an empty image"
        assert failure(read_object, uri).code == ErrorCode.NOT_FOUND


def test_a_linked_folder_can_be_an_input(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    assert set(listed(str(tmp_path / "link"))) == {f"file://{tmp_path}/link/a.png"}


def test_listing_what_does_not_exist_is_not_found(tmp_path: Path, s3: dict[str, str]) -> None:
    for folder in (str(tmp_path / "missing"), "s3://missing-bucket", "s3://missing-bucket/dir"):
        error = failure(list_all, folder)
        assert error.code == ErrorCode.NOT_FOUND
        assert absolute(folder) in str(error)


def test_a_listing_can_be_left_early(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amazon, "LISTING_PAGES_AHEAD", 1)
    put(bucket, {f"{i:02}/a.png": b"x" for i in range(30)})
    before = set(threading.enumerate())
    pages = list_objects(f"s3://{bucket}")
    next(pages)
    pages.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 20
    while left := [t for t in threading.enumerate() if t not in before and t.is_alive()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def test_a_listing_in_progress_does_not_keep_a_failed_process_alive(bucket: str) -> None:
    put(bucket, {f"{i:02}/a.png": b"x" for i in range(30)})
    program = (
        "import time; from pipeline import storage\n"
        "storage.amazon.LISTING_PAGES_AHEAD = 1\n"
        f"pages = storage.list_objects('s3://{bucket}')\n"
        "next(pages)\n"
        "time.sleep(0.5)\n"
        "raise SystemExit(3)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert ended.returncode == 3


def test_a_folder_that_cannot_be_listed_below_the_top_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was left out in silence, and vacuum deleted what its rows pointed to."""
    for name in ("open", "secret"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "a.png").write_bytes(b"x")
    deny(monkeypatch, f"{tmp_path}/in/secret")
    error = failure(list_all, f"{tmp_path}/in")
    assert error.code == ErrorCode.ACCESS_DENIED
    assert f"{tmp_path}/in/secret" in str(error)


def test_a_folder_that_is_no_folder_any_more_does_not_read_as_a_missing_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    deny(monkeypatch, f"{tmp_path}/sub", NotADirectoryError)
    assert failure(list_all, str(tmp_path)).code == ErrorCode.FETCH_FAILED


def test_a_folder_that_is_removed_while_it_is_listed_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "a.png").write_bytes(b"x")
    deny(monkeypatch, f"{tmp_path}/gone", FileNotFoundError)
    assert list(listed(str(tmp_path))) == [f"file://{tmp_path}/a.png"]


def deny(
    monkeypatch: pytest.MonkeyPatch, folder: str, error: type[OSError] = PermissionError
) -> None:
    """As mode 000 does to everybody but root."""
    scan = os.scandir

    def scandir(path: Any) -> Any:
        if str(path) == folder:
            raise error(13, "denied", folder)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_file_of_1970_has_its_version_from_that_time(tmp_path: Path) -> None:
    """Not from the time at which it came here, which is another on every machine."""
    (tmp_path / "a.png").write_bytes(b"x")
    os.utime(tmp_path / "a.png", (0, 0))
    (info,) = listed(str(tmp_path)).values()
    assert info.etag == "0.0-1"
    assert info.last_modified == datetime(1970, 1, 1, tzinfo=UTC)


def test_a_file_from_http_has_its_version_from_last_modified() -> None:
    """It was "None-1", whatever became of the file."""
    modified = ["Sun, 09 Sep 2001 01:46:40 GMT"]
    with serving(lambda h: answer(h, b"x", Last_Modified=modified[0])) as address:
        uri = f"{address}/a.png"
        first = stat(uri)
        assert first.last_modified == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
        assert read_object(uri) == (b"x", first.etag)
        modified[0] = "Mon, 10 Sep 2001 01:46:40 GMT"
        assert stat(uri).etag != first.etag
