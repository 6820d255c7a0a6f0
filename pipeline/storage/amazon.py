"""S3 and what speaks its protocol: listing side by side, versions, bodies."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from pipeline.schema import ErrorCode

from .access import ObjectInfo, StorageError, s3, s3_etag, split_s3, translated

LISTING_THREADS = 16
LISTING_PAGE_KEYS = 1_000  # as many as S3 gives
LISTING_PAGES_AHEAD = 32  # bounds the memory of a listing that outruns its reader
LISTING_PREFIXES_AHEAD = 10_000  # folders known but not listed yet; 1 MB of names
READ_ATTEMPTS = 3  # for bodies cut short, which botocore's own retries don't cover

# Classes whose objects must be restored before they can be read (S3 user guide, "Storage classes").
ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")


def list_s3(folder: str) -> Iterator[list[ObjectInfo]]:
    """List sub-prefixes side by side: S3 itself gives 1,000 keys a request, one after the other."""
    bucket, key = split_s3(folder)
    prefix = f"{key}/" if key else ""
    first = next(_pages(bucket, prefix, ""))
    if not first.get("IsTruncated"):  # all there is; folder by folder it is a request for each
        yield [_info(bucket, entry) for entry in first.get("Contents", ())]
        return
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
        for page in _pages(bucket, below, delimiter):
            put([_info(bucket, entry) for entry in page.get("Contents", ())])
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
    try:
        while (page := pages.get()) is not None:
            if isinstance(page, BaseException):
                with translated(folder):
                    raise page
            yield page
    finally:
        stop.set()


def stat_s3(uri: str) -> ObjectInfo:
    """See ``storage.stat``."""
    bucket, key = split_s3(uri)
    head = s3(bucket).head_object(Bucket=bucket, Key=key)
    modified, size = head["LastModified"], head["ContentLength"]
    archived = head.get("StorageClass") in ARCHIVES or "ArchiveStatus" in head
    # "ongoing-request" is false once a restored copy is there, and until it expires.
    archived = archived and 'ongoing-request="false"' not in head.get("Restore", "")
    return ObjectInfo(uri, s3_etag(head.get("ETag"), modified, size), size, modified, archived)


def read_s3(uri: str) -> tuple[bytes, str]:
    """See ``storage.read_object``."""
    data, etag = read_small_s3(uri, sys.maxsize)
    assert data is not None
    return data, etag


def read_small_s3(uri: str, most: int) -> tuple[bytes | None, str]:
    """Body and ETag of an object; no body if it has more bytes. One request, whichever it is."""
    bucket, key = split_s3(uri)
    for attempt in range(1, READ_ATTEMPTS + 1):
        response = s3(bucket).get_object(Bucket=bucket, Key=key)
        size, etag = response.get("ContentLength", 0), response.get("ETag")
        if size > most:
            response["Body"].close()
            return None, s3_etag(etag, response.get("LastModified"), size)
        try:
            data = response["Body"].read()
            return data, s3_etag(etag, response.get("LastModified"), len(data))
        except Exception:
            if attempt == READ_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _start_daemon(target: Callable[[], None]) -> threading.Thread:
    """A thread that the interpreter, unlike a pool's, does not wait for when it ends."""
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def _pages(bucket: str, prefix: str, delimiter: str) -> Iterator[Any]:
    folder = f"s3://{bucket}/{prefix}"
    request: Any = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": LISTING_PAGE_KEYS}
    request |= {"Delimiter": delimiter} if delimiter else {}
    token = None
    with translated(folder):
        while True:
            page = s3(bucket).list_objects_v2(**request)
            yield _with_restores(page, bucket, request)
            if not page.get("IsTruncated"):
                return
            if page.get("NextContinuationToken") in (None, token):
                raise StorageError(
                    ErrorCode.FETCH_FAILED,
                    f"{folder}: the server says that its listing goes on, and not where; objects "
                    "would be left out",
                )
            token = request["ContinuationToken"] = page["NextContinuationToken"]


def _with_restores(page: Any, bucket: str, request: Any) -> Any:
    """The page, with what is known of restored copies if anything in it is archived.

    Asked for only then: servers that have no archive need not know the question.
    """
    if not any(entry.get("StorageClass") in ARCHIVES for entry in page.get("Contents", ())):
        return page
    try:
        return s3(bucket).list_objects_v2(**request, OptionalObjectAttributes=["RestoreStatus"])
    except ClientError:
        return page


def _info(bucket: str, entry: Any) -> ObjectInfo:
    modified, size = entry["LastModified"], entry["Size"]
    etag = s3_etag(entry.get("ETag"), modified, size)
    restored = "RestoreExpiryDate" in entry.get("RestoreStatus", {})
    archived = entry.get("StorageClass") in ARCHIVES and not restored
    return ObjectInfo(f"s3://{bucket}/{entry['Key']}", etag, size, modified, archived)
