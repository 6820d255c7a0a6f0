"""Objects by URI: listing, reading, writing. S3 through boto3, everything else through fsspec.

URIs are spelled as fsspec does (``s3://bucket/key``, ``file:///path``) and never percent-encoded:
what follows the bucket is the key, whatever characters it holds. S3 credentials, profiles and
endpoints are botocore's (AWS_PROFILE, AWS_ENDPOINT_URL, ...); nothing of them is kept or printed.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import fsspec
from botocore.config import Config
from botocore.exceptions import ClientError, NoCredentialsError
from pyarrow.fs import FSSpecHandler, PyFileSystem

from .schema import ErrorCode

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LISTING_THREADS = 16
LISTING_PAGES_AHEAD = 32  # of 1,000 keys: bounds the memory of a listing that outruns its reader
MAX_CONNECTIONS = 64  # per process; boto3's default of 10 would throttle the fetching threads
READ_ATTEMPTS = 3  # for bodies cut short, which botocore's own retries don't cover

_client_lock = threading.Lock()


class StorageError(Exception):
    """An object that can't be listed, read or written; ``code`` says why."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing."""

    uri: str
    etag: str
    """Opaque version: equal means unchanged."""
    size: int
    """Bytes."""
    last_modified: datetime | None


def absolute(uri: str) -> str:
    """A URI with its scheme and without a trailing slash; local paths become absolute."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return f"file://{os.path.abspath(os.path.expanduser(uri))}"
    scheme = {"s3a": "s3", "gcs": "gs", "local": "file"}.get(scheme, scheme)
    if scheme == "file":
        return f"file://{os.path.abspath(rest)}"  # as listings spell it: no "//", no ".."
    return f"{scheme}://{rest.rstrip('/')}" if rest.strip("/") else f"{scheme}:///"


def list_objects(folder: str) -> Iterator[list[ObjectInfo]]:
    """Pages of the objects below a folder (or the one object of that name), in no fixed order.

    Zero-byte keys that end in a slash are folder markers of S3 consoles and left out. Memory is
    bounded: at most ``LISTING_PAGES_AHEAD`` pages wait for the reader.

    Raises:
        StorageError: the folder can't be listed.
    """
    folder = absolute(folder)
    if folder.startswith("s3://"):
        yield from _list_s3(folder)
    else:
        yield from _list_fsspec(folder)


def stat(uri: str) -> ObjectInfo:
    """Version and size of one object.

    Raises:
        StorageError: it does not exist or can't be reached.
    """
    with _translated(uri):
        if uri.startswith("s3://"):
            bucket, key = _split_s3(uri)
            head = _s3().head_object(Bucket=bucket, Key=key)
            return ObjectInfo(uri, head["ETag"], head["ContentLength"], head["LastModified"])
        filesystem, path = _filesystem(uri)
        return _info(filesystem, filesystem.info(path))


def read_object(uri: str) -> tuple[bytes, str]:
    """Body and ETag of an object; if a listing gave the same ETag, the body is that version.

    Raises:
        StorageError: it does not exist or can't be read.
    """
    with _translated(uri):
        if uri.startswith("s3://"):
            return _read_s3(*_split_s3(uri))
        filesystem, path = _filesystem(uri)
        data = filesystem.cat_file(path)
        # Looked up last: an object that was replaced before or during the read shows.
        return data, _info(filesystem, filesystem.info(path)).etag


def write_object(uri: str, data: bytes) -> None:
    """Write an object so that readers see all of it or nothing.

    Raises:
        StorageError: it can't be written.
    """
    uri = absolute(uri)
    with _translated(uri):
        if uri.startswith("s3://"):
            bucket, key = _split_s3(uri)
            _s3().put_object(Bucket=bucket, Key=key, Body=data)
            return
        filesystem, path = _filesystem(uri)
        if not uri.startswith("file://"):
            filesystem.pipe_file(path, data)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        incomplete = f"{os.path.dirname(path)}/.incomplete-{uuid4().hex}"
        try:
            with open(incomplete, "xb") as file:
                file.write(data)
            os.replace(incomplete, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(incomplete)
            raise


def arrow_filesystem(uri: str) -> tuple[PyFileSystem, str]:
    """A filesystem and path for ``pyarrow.dataset`` and ``ray.data.read_parquet``."""
    filesystem, path = _filesystem(absolute(uri))
    return PyFileSystem(FSSpecHandler(filesystem)), path


def _read_s3(bucket: str, key: str) -> tuple[bytes, str]:
    for attempt in range(1, READ_ATTEMPTS + 1):
        response = _s3().get_object(Bucket=bucket, Key=key)
        try:
            return response["Body"].read(), response["ETag"]
        except Exception:
            if attempt == READ_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _list_s3(folder: str) -> Iterator[list[ObjectInfo]]:
    """List below the folder's sub-prefixes side by side: S3 itself gives 1,000 keys a request."""
    bucket, key = _split_s3(folder)
    prefix = f"{key}/" if key else ""
    pages: queue.Queue[list[ObjectInfo] | BaseException | None] = queue.Queue(LISTING_PAGES_AHEAD)
    prefixes: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    stop = threading.Event()

    def put(item: list[ObjectInfo] | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                pages.put(item, timeout=0.1)
                return

    def walk(below: str, delimiter: str = "") -> None:
        try:
            for page in _s3_pages(bucket, below, delimiter):
                put([_s3_info(bucket, entry) for entry in page.get("Contents", ())])
                for deeper in page.get("CommonPrefixes", ()):
                    prefixes.put(deeper["Prefix"])
                if stop.is_set():
                    return
        except BaseException as error:
            put(error)

    def walk_prefixes() -> None:
        while (below := prefixes.get()) is not None:
            if not stop.is_set():
                walk(below)

    def top() -> None:
        walkers = [_start_daemon(walk_prefixes) for _ in range(LISTING_THREADS)]
        walk(prefix, "/")
        for _ in walkers:
            prefixes.put(None)
        for walker in walkers:
            walker.join()
        put(None)

    _start_daemon(top)
    found = False
    try:
        while (page := pages.get()) is not None:
            if isinstance(page, BaseException):
                with _translated(folder):
                    raise page
            page = [o for o in page if o.size or not o.uri.endswith("/")]
            found = found or bool(page)
            if page:
                yield page
    finally:
        stop.set()
    if not found and key:
        try:
            info = stat(folder)
        except StorageError as error:
            if error.code != ErrorCode.NOT_FOUND:
                raise
        else:
            yield [info]


def _start_daemon(target: Callable[[], None]) -> threading.Thread:
    """A thread that the interpreter, unlike a pool's, does not wait for when it ends."""
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def _s3_pages(bucket: str, prefix: str, delimiter: str) -> Iterator[Any]:
    paginator = _s3().get_paginator("list_objects_v2")
    return iter(paginator.paginate(Bucket=bucket, Prefix=prefix, Delimiter=delimiter))


def _s3_info(bucket: str, entry: Any) -> ObjectInfo:
    uri = f"s3://{bucket}/{entry['Key']}"
    return ObjectInfo(uri, entry["ETag"], entry["Size"], entry["LastModified"])


def _list_fsspec(folder: str) -> Iterator[list[ObjectInfo]]:
    filesystem, path = _filesystem(folder)
    with _translated(folder):
        if filesystem.isfile(path):
            yield [stat(folder)]
            return
        for _, _, files in filesystem.walk(path, detail=True, on_error="raise"):
            if files:
                yield [_info(filesystem, _followed(filesystem, entry)) for entry in files.values()]


def _followed(filesystem: Any, entry: dict[str, Any]) -> dict[str, Any]:
    """What a symbolic link points to, as ``stat`` sees it; a folder's listing tells of the link.

    Links that can't be read, to folders or to nothing, stay as they are and fail when fetched.
    """
    if entry.get("islink"):
        with suppress(OSError):
            target: dict[str, Any] = filesystem.info(entry["name"])
            if target["type"] != "directory":
                return target
        return {**entry, "size": len(entry["destination"])}  # not 0, which would be "empty"
    return entry


def _info(filesystem: Any, entry: dict[str, Any]) -> ObjectInfo:
    """fsspec's details of a file, whose names differ between filesystems."""
    if entry["type"] == "directory":
        raise IsADirectoryError(f"{entry['name']} is a folder")
    modified = entry.get("mtime") or entry.get("updated") or entry.get("created")
    etag = entry.get("etag") or entry.get("ETag") or f"{modified}-{entry['size']}"
    if isinstance(modified, int | float):
        modified = datetime.fromtimestamp(modified, UTC)
    elif isinstance(modified, str):
        modified = datetime.fromisoformat(modified)
    # A file name that is no UTF-8 can't stand in a table; escaped, it becomes a "not found" row.
    name = entry["name"].encode("utf-8", "backslashreplace").decode()
    return ObjectInfo(filesystem.unstrip_protocol(name), etag, entry["size"], modified)


def _split_s3(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _s3() -> S3Client:
    """One client a process: using it is thread-safe and reuses connections, making it is not."""
    with _client_lock:
        return _s3_client()


@lru_cache(maxsize=1)
def _s3_client() -> S3Client:
    # Waits 7 s on average, 15 s at most, before an endpoint that refuses is given up.
    retries: Any = {"mode": "standard", "total_max_attempts": 5}
    config = Config(
        retries=retries, max_pool_connections=MAX_CONNECTIONS, connect_timeout=10, read_timeout=60
    )
    return boto3.client("s3", config=config)


def _filesystem(uri: str) -> tuple[Any, str]:
    """fsspec's filesystem and the path in it, without parsing the key as fsspec.open would."""
    scheme, rest = uri.split("://", 1)
    try:
        # Listings change while this process runs, so none is cached.
        filesystem = fsspec.filesystem(scheme, use_listings_cache=False)
        return filesystem, uri if scheme in ("http", "https") else rest
    except (ImportError, ValueError) as error:
        raise StorageError(ErrorCode.FETCH_FAILED, f"{scheme}:// can't be read: {error}") from error


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    """Turns the exceptions of boto3, fsspec and the system into ``StorageError``."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        message = str(error) or type(error).__name__
        if "Invalid header value" in message:  # and here it would quote a credential
            message = "a credential holds a line break or another character that HTTP refuses"
            raise StorageError(ErrorCode.ACCESS_DENIED, f"{uri}: {message}") from None
        raise StorageError(_code(error), f"{uri}: {message}") from error


def _code(error: Exception) -> ErrorCode:
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status in (401, 403):
            return ErrorCode.ACCESS_DENIED
        return ErrorCode.NOT_FOUND if status == 404 else ErrorCode.FETCH_FAILED
    if isinstance(error, NoCredentialsError | PermissionError) or "Forbidden" in str(error):
        return ErrorCode.ACCESS_DENIED
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return ErrorCode.NOT_FOUND
    return ErrorCode.FETCH_FAILED
