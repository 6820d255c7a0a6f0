"""Objects by URI: listing, reading, writing. S3 through boto3, everything else through fsspec.

URIs are spelled as fsspec does (``s3://bucket/key``, ``file:///path``) and never percent-encoded:
what follows the bucket is the key, whatever characters it holds. S3 credentials, profiles and
endpoints are botocore's (AWS_PROFILE, AWS_ENDPOINT_URL, ...); nothing of them is kept or printed.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pyarrow.fs import FSSpecHandler, PyFileSystem

from pipeline.schema import ErrorCode

from .access import (
    ObjectInfo,
    StorageError,
    absolute,
    file_info,
    filesystem_of,
    s3,
    split_s3,
    translated,
)
from .conditional import create_object, delete_objects, replace_file, replace_object

__all__ = [
    "ObjectInfo",
    "StorageError",
    "absolute",
    "arrow_filesystem",
    "create_object",
    "delete_objects",
    "list_objects",
    "read_object",
    "replace_object",
    "stat",
    "write_object",
]

LISTING_THREADS = 16
LISTING_PAGE_KEYS = 1_000  # as many as S3 gives
LISTING_PAGES_AHEAD = 32  # bounds the memory of a listing that outruns its reader
LISTING_PREFIXES_AHEAD = 10_000  # folders known but not listed yet; 1 MB of names
_EXACT = {"s3": {"default_cache_type": "none", "default_fill_cache": False}}
READ_ATTEMPTS = 3  # for bodies cut short, which botocore's own retries don't cover


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
    with translated(uri):
        if uri.startswith("s3://"):
            bucket, key = split_s3(uri)
            head = s3().head_object(Bucket=bucket, Key=key)
            return ObjectInfo(uri, head["ETag"], head["ContentLength"], head["LastModified"])
        filesystem, path = filesystem_of(uri)
        return file_info(filesystem, filesystem.info(path))


def read_object(uri: str) -> tuple[bytes, str]:
    """Body and ETag of an object; if a listing gave the same ETag, the body is that version.

    Raises:
        StorageError: it does not exist or can't be read.
    """
    with translated(uri):
        if uri.startswith("s3://"):
            return _read_s3(*split_s3(uri))
        filesystem, path = filesystem_of(uri)
        data = filesystem.cat_file(path)
        # Looked up last: an object that was replaced before or during the read shows.
        return data, file_info(filesystem, filesystem.info(path)).etag


def write_object(uri: str, data: bytes, content_type: str | None = None) -> None:
    """Write an object so that readers see all of it or nothing.

    Args:
        content_type: what a browser takes it for that opens it from S3 or Google's storage, such
            as "text/html; charset=utf-8"; without one it downloads the object.

    Raises:
        StorageError: it can't be written.
    """
    uri = absolute(uri)
    with translated(uri):
        if uri.startswith("s3://"):
            bucket, key = split_s3(uri)
            options: Any = {"ContentType": content_type} if content_type else {}
            s3().put_object(Bucket=bucket, Key=key, Body=data, **options)
            return
        filesystem, path = filesystem_of(uri)
        if not uri.startswith("file://"):
            of_gcsfs = {"content_type": content_type} if uri.startswith("gs://") else {}
            filesystem.pipe_file(path, data, **(of_gcsfs if content_type else {}))
            return
        replace_file(path, data)


def arrow_filesystem(uri: str) -> tuple[PyFileSystem, str]:
    """A filesystem and path for ``pyarrow.dataset`` and ``ray.data.read_parquet``."""
    # Arrow asks for exactly the bytes it needs; s3fs by itself would read megabytes beyond them.
    filesystem, path = filesystem_of(absolute(uri), **_EXACT.get(uri.split(":", 1)[0], {}))
    return PyFileSystem(FSSpecHandler(filesystem)), path


def _read_s3(bucket: str, key: str) -> tuple[bytes, str]:
    for attempt in range(1, READ_ATTEMPTS + 1):
        response = s3().get_object(Bucket=bucket, Key=key)
        try:
            return response["Body"].read(), response["ETag"]
        except Exception:
            if attempt == READ_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _list_s3(folder: str) -> Iterator[list[ObjectInfo]]:
    """List sub-prefixes side by side: S3 itself gives 1,000 keys a request, one after the other."""
    bucket, key = split_s3(folder)
    prefix = f"{key}/" if key else ""
    pages: queue.Queue[list[ObjectInfo] | BaseException | None] = queue.Queue(LISTING_PAGES_AHEAD)
    prefixes: queue.Queue[str | None] = queue.Queue(LISTING_PREFIXES_AHEAD)
    stop = threading.Event()

    def put(item: list[ObjectInfo] | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                pages.put(item, timeout=0.1)
                return

    def walk(below: str) -> None:
        # Folder by folder only while threads may have nothing to do: that takes more requests.
        delimiter = "/" if prefixes.qsize() < LISTING_THREADS else ""
        for page in _s3_pages(bucket, below, delimiter):
            put([_s3_info(bucket, entry) for entry in page.get("Contents", ())])
            for deeper in page.get("CommonPrefixes", ()):
                try:
                    prefixes.put_nowait(deeper["Prefix"])
                except queue.Full:
                    walk(deeper["Prefix"])
            if stop.is_set():
                return

    def walk_prefixes() -> None:
        while (below := prefixes.get()) is not None:
            try:
                if not stop.is_set():
                    walk(below)
            except BaseException as error:
                put(error)
            finally:
                prefixes.task_done()

    def top() -> None:
        prefixes.put(prefix)
        for _ in range(LISTING_THREADS):
            _start_daemon(walk_prefixes)
        prefixes.join()
        for _ in range(LISTING_THREADS):
            prefixes.put(None)
        put(None)

    _start_daemon(top)
    found = False
    try:
        while (page := pages.get()) is not None:
            if isinstance(page, BaseException):
                with translated(folder):
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
    paginator = s3().get_paginator("list_objects_v2")
    size: Any = {"PageSize": LISTING_PAGE_KEYS}
    return iter(
        paginator.paginate(Bucket=bucket, Prefix=prefix, Delimiter=delimiter, PaginationConfig=size)
    )


def _s3_info(bucket: str, entry: Any) -> ObjectInfo:
    uri = f"s3://{bucket}/{entry['Key']}"
    return ObjectInfo(uri, entry["ETag"], entry["Size"], entry["LastModified"])


def _list_fsspec(folder: str) -> Iterator[list[ObjectInfo]]:
    filesystem, path = filesystem_of(folder)
    with translated(folder):
        if filesystem.isfile(path):
            yield [stat(folder)]
            return
        for _, _, files in filesystem.walk(path, detail=True, on_error="raise"):
            if files:
                yield [
                    file_info(filesystem, _followed(filesystem, entry)) for entry in files.values()
                ]


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
