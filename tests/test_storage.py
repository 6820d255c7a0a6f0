"""Objects by URI: the same promises on a local folder and on a real S3 server."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

import boto3
import pytest
from fsspec.implementations.local import LocalFileSystem

from infra.local import LOCAL_CREDENTIALS
from pipeline import storage
from pipeline.schema import ErrorCode
from pipeline.storage import (
    ObjectInfo,
    StorageError,
    absolute,
    access,
    conditional,
    create_object,
    delete_objects,
    list_objects,
    read_object,
    replace_object,
    stat,
    write_object,
)
from tests.bucket import put

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

Handler = BaseHTTPRequestHandler


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty folder."""
    if request.param == "local":
        return f"file://{tmp_path}"
    return f"s3://{request.getfixturevalue('bucket')}"


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Points the S3 client at another endpoint for the length of the test."""
    for name, value in LOCAL_CREDENTIALS.items():
        monkeypatch.setenv(name, value)

    def point(endpoint: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        access.s3_client.cache_clear()

    yield point
    access.s3_client.cache_clear()


@contextmanager
def serving(get: Callable[[Handler], None]) -> Iterator[str]:
    """An HTTP server whose GET is the given function; yields its address."""

    class Quiet(Handler):
        def do_GET(self) -> None:
            get(self)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def answer(
    handler: Handler, body: bytes, *, status: int = 200, length: int | None = None, **headers: str
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True


def listed(folder: str) -> dict[str, ObjectInfo]:
    """A listing by URI; no object comes twice."""
    objects = [info for page in list_objects(folder) for info in page]
    by_uri = {info.uri: info for info in objects}
    assert len(by_uri) == len(objects)
    return by_uri


def failure(action: Callable[..., Any], *arguments: Any) -> StorageError:
    with pytest.raises(StorageError) as caught:
        action(*arguments)
    return caught.value


def list_all(folder: str) -> None:
    list(list_objects(folder))


def bucket_of(uri: str) -> str:
    return uri.removeprefix("s3://").split("/")[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a b/%20#+?/", "s3://bucket/a b/%20#+?"),
        ("s3://bucket/a//b", "s3://bucket/a//b"),
        ("s3a://bucket/a", "s3://bucket/a"),
        ("gcs://bucket/a", "gs://bucket/a"),
        ("/data/images/", "file:///data/images"),
        ("/data//images/../other", "file:///data/other"),
        ("file:///data//images/", "file:///data/images"),
        ("local:///data", "file:///data"),
        ("file:///", "file:///"),
    ],
)
def test_absolute_spells_a_uri_in_one_way(given: str, expected: str) -> None:
    assert absolute(given) == expected


def test_absolute_resolves_home_and_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert absolute("images") == f"file://{tmp_path}/images"
    assert absolute("~/images") == "file:///home/someone/images"


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
    monkeypatch.setattr(storage, "LISTING_PAGES_AHEAD", 1)
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
        "storage.LISTING_PAGES_AHEAD = 1\n"
        f"pages = storage.list_objects('s3://{bucket}')\n"
        "next(pages)\n"
        "time.sleep(0.5)\n"
        "raise SystemExit(3)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert ended.returncode == 3


def test_stat_and_read_of_a_missing_object_are_not_found(root: str) -> None:
    for action in (stat, read_object):
        error = failure(action, f"{root}/missing.png")
        assert error.code == ErrorCode.NOT_FOUND
        assert f"{root}/missing.png" in str(error)


def test_a_local_folder_is_no_object(tmp_path: Path) -> None:
    for action in (stat, read_object):
        assert failure(action, f"file://{tmp_path}").code == ErrorCode.NOT_FOUND


def test_the_etag_changes_with_the_object(root: str) -> None:
    uri = f"{root}/a.png"
    write_object(uri, b"one")
    first = stat(uri)
    write_object(uri, b"other")
    assert stat(uri).etag != first.etag
    assert read_object(uri) == (b"other", stat(uri).etag)


def test_a_file_replaced_while_it_is_read_shows_in_the_etag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"file://{tmp_path}/a.png"
    write_object(uri, b"listed")
    (info,) = listed(str(tmp_path)).values()
    read = LocalFileSystem.cat_file

    def replace_then_read(filesystem: LocalFileSystem, path: str) -> bytes:
        write_object(uri, b"newer version")
        data: bytes = read(filesystem, path)
        return data

    monkeypatch.setattr(LocalFileSystem, "cat_file", replace_then_read)
    data, etag = read_object(uri)
    assert data == b"newer version"
    assert etag != info.etag


def test_an_unknown_scheme_is_named() -> None:
    assert "nosuch://" in str(failure(list_all, "nosuch://bucket/dir"))


def test_a_forbidden_object_is_access_denied(point_at: Callable[[str], None]) -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    with serving(lambda handler: answer(handler, body, status=403)) as endpoint:
        point_at(endpoint)
        for action in (read_object, list_all):
            assert failure(action, "s3://bucket/a.png").code == ErrorCode.ACCESS_DENIED


def test_expired_credentials_are_access_denied(point_at: Callable[[str], None]) -> None:
    body = b"<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"
    with serving(lambda handler: answer(handler, body, status=400)) as endpoint:
        point_at(endpoint)
        for action in (read_object, list_all):
            assert failure(action, "s3://bucket/a.png").code == ErrorCode.ACCESS_DENIED


def test_a_body_cut_short_is_read_again(point_at: Callable[[str], None]) -> None:
    cut_short = [True, True, False]

    def get(handler: Handler) -> None:
        body = b"half" if cut_short.pop(0) else b"half and half"
        answer(handler, body, length=13, ETag='"e"')

    with serving(get) as endpoint:
        point_at(endpoint)
        assert read_object("s3://bucket/a.png") == (b"half and half", '"e"')


def test_a_body_always_cut_short_is_fetch_failed(point_at: Callable[[str], None]) -> None:
    requests: list[str] = []

    def get(handler: Handler) -> None:
        requests.append(handler.path)
        answer(handler, b"half", length=13, ETag='"e"')

    with serving(get) as endpoint:
        point_at(endpoint)
        assert failure(read_object, "s3://bucket/a.png").code == ErrorCode.FETCH_FAILED
    assert len(requests) == storage.READ_ATTEMPTS


@pytest.mark.parametrize("action", [read_object, stat, list_all])
def test_a_refused_connection_is_fetch_failed_after_a_short_while(
    action: Callable[[str], Any],
    point_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(answer_nothing) as endpoint:
        pass  # the port is free again
    point_at(endpoint)
    waits: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time", Clock(waits))
    assert failure(action, "s3://bucket/a.png").code == ErrorCode.FETCH_FAILED
    assert 1 <= len(waits) <= 4, "botocore's retries must not be multiplied by our own"
    assert sum(waits) <= 15


def answer_nothing(handler: Handler) -> None:
    pass


class Clock:
    """botocore's ``time`` module, with waits that are noted instead of slept."""

    def __init__(self, waits: list[float]) -> None:
        self.sleep = waits.append

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.mark.parametrize("broken", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
def test_a_credential_with_a_line_break_is_not_quoted(
    broken: str, point_at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(broken, "SENSITIVE\n")
    monkeypatch.setattr("botocore.endpoint.time", Clock([]))
    with serving(answer_nothing) as endpoint:
        point_at(endpoint)
        error = failure(read_object, "s3://bucket/a.png")
    assert error.code == ErrorCode.ACCESS_DENIED
    assert "credential" in str(error)
    assert "SENSITIVE" not in "".join(traceback.format_exception(error))


def test_wrong_credentials_are_not_quoted(
    point_at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, f"SENSITIVE{name}")
    body = (
        b"<Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access Key Id you provided does "
        b"not exist in our records.</Message><AWSAccessKeyId>SENSITIVE</AWSAccessKeyId></Error>"
    )
    with serving(lambda handler: answer(handler, body, status=403)) as endpoint:
        point_at(endpoint)
        for action in (list_all, read_object):
            error = failure(action, "s3://bucket/a.png")
            assert error.code == ErrorCode.ACCESS_DENIED
            assert "SENSITIVE" not in "".join(traceback.format_exception(error))


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
