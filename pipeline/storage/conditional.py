"""Writes that happen only if nobody else wrote, and deletes in bulk.

Conditions are those of S3 and Azure (``If-None-Match``, ``If-Match``) and the generations of Google
Cloud Storage. Local files are compared and replaced under a lock on their folder, which holds among
the processes of one machine and, where the file system carries ``flock`` over, among those that
share a disk. On any other file system another writer may slip in between comparing and writing.

Servers that speak S3's protocol may ignore conditions, or refuse them: ``pipeline.output.lock``
finds out.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError

from pipeline.schema import ErrorCode

from .access import (
    CHECKSUMS_REMEDY,
    ConditionsRefusedError,
    StorageError,
    absolute,
    error_code,
    filesystem_of,
    s3,
    s3_etag,
    sends_checksums,
    split_s3,
    status_of,
    translated,
)
from .amazon import stat_s3
from .azure import delete_azure, write_azure_if
from .files import file_info
from .google import write_google_if

DELETED_AT_ONCE = 1_000  # the most that S3 takes in a request
DELETING_THREADS = 16  # where objects go one by one
# 412: the condition does not hold. 409: another conditional write was under way at the same time.
_REFUSED = (409, 412)
# What servers say that know a request, or a header of it, not at all.
_NOT_IMPLEMENTED = (405, 501)
# No bulk deletes: 400 for want of Content-MD5, which SDKs of today leave out; 411 for a length.
_NO_BULK = (400, 411, *_NOT_IMPLEMENTED)


def create_object(uri: str, data: bytes) -> str | None:
    """Write an object if there is none of that name.

    A request that S3 carried out and whose answer got lost is sent again by botocore and then finds
    its own object: whoever must know reads it when the answer is None.

    Returns:
        The ETag, or None if there is one.

    Raises:
        ConditionsRefusedError: the store takes no conditions.
        StorageError: it can't be written.
    """
    return _write_if(absolute(uri), data, None)


def replace_object(uri: str, data: bytes, etag: str) -> str | None:
    """Write an object if the one of that name still has this ETag.

    Returns:
        The new ETag, or None if the object was replaced or deleted; see ``create_object``.

    Raises:
        ConditionsRefusedError: the store refuses although the object has this ETag.
        StorageError: it can't be written.
    """
    return _write_if(absolute(uri), data, etag)


def delete_objects(uris: Iterable[str]) -> None:
    """Delete objects; those that don't exist are no error.

    Raises:
        StorageError: one can't be deleted; others may be.
    """
    by_bucket: dict[str, list[str]] = {}
    for uri in map(absolute, uris):
        if uri.startswith("s3://"):
            bucket, key = split_s3(uri)
            by_bucket.setdefault(bucket, []).append(key)
            continue
        with translated(uri), suppress(FileNotFoundError):
            if uri.startswith("abfs://"):
                delete_azure(uri)
                continue
            filesystem, path = filesystem_of(uri)
            filesystem.rm_file(path)
    for bucket, keys in by_bucket.items():
        for start in range(0, len(keys), DELETED_AT_ONCE):
            _delete_s3(bucket, keys[start : start + DELETED_AT_ONCE])


def replace_file(path: str, data: bytes) -> None:
    """Write a local file so that readers see all of it or nothing; makes its folder."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    incomplete = f"{folder}/.incomplete-{uuid4().hex}"
    try:
        with open(incomplete, "xb") as file:
            file.write(data)
        os.replace(incomplete, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(incomplete)
        raise


def _write_if(uri: str, data: bytes, etag: str | None) -> str | None:
    """Write if the object has this ETag; None = if there is none."""
    with translated(uri):
        if uri.startswith("s3://"):
            return _create_s3(uri, data) if etag is None else _replace_s3(uri, data, etag)
        if uri.startswith("gs://"):
            return write_google_if(uri, data, etag)
        if uri.startswith("abfs://"):
            return write_azure_if(uri, data, etag)
        filesystem, path = filesystem_of(uri)
        if uri.startswith("file://"):
            with _folder_locked(path):
                if _etag(filesystem, path) != etag:
                    return None
                replace_file(path, data)
                return _etag(filesystem, path)
        if _etag(filesystem, path) != etag:
            return None
        try:
            filesystem.pipe_file(path, data, mode="overwrite" if etag else "create")
        except FileExistsError:
            return None
        return _etag(filesystem, path)


def _create_s3(uri: str, data: bytes) -> str | None:
    etag, _ = _put_s3_if(uri, data, IfNoneMatch="*")
    return etag


def _replace_s3(uri: str, data: bytes, etag: str) -> str | None:
    # Ceph radosgw (16 at least) compares the header, quotes and all, with an ETag without any.
    for spelled in (etag, etag.strip('"')):
        found, status = _put_s3_if(uri, data, IfMatch=spelled)
        if found is not None or status != 412 or _s3_etag_now(uri) != etag:
            return found
    raise ConditionsRefusedError(
        ErrorCode.FETCH_FAILED,
        f"{uri}: the store refuses a write with If-Match {etag}, though that is the object's ETag",
    )


def _put_s3_if(uri: str, data: bytes, **condition: str) -> tuple[str | None, int | None]:
    """The new ETag, or None and the status with which the condition was found not to hold."""
    bucket, key = split_s3(uri)
    options: Any = condition
    try:
        answer = s3(bucket).put_object(Bucket=bucket, Key=key, Body=data, **options)
    except ClientError as error:
        status = status_of(error)
        gone = "IfMatch" in condition and error_code(error) == "NoSuchKey"
        if status in _REFUSED or gone:
            return None, status
        if status in _NOT_IMPLEMENTED or error_code(error) == "NotImplemented":
            refused = f"{uri}: the store refuses a write under a condition ({error})"
            # Unless the server says so itself, the checksum may as well be what it does not know.
            plain = "conditional" in str(error).lower() or not sends_checksums()
            told = refused if plain else f"{refused}; {CHECKSUMS_REMEDY}"
            raise ConditionsRefusedError(ErrorCode.FETCH_FAILED, told) from error
        raise
    if etag := answer.get("ETag"):
        return s3_etag(etag), None
    return _s3_etag_now(uri), None


def _s3_etag_now(uri: str) -> str | None:
    try:
        return stat_s3(uri).etag
    except ClientError as error:
        if status_of(error) != 404:
            raise
        return None


def _delete_s3(bucket: str, keys: list[str]) -> None:
    with translated(f"s3://{bucket}"):
        objects: Any = [{"Key": key} for key in keys]
        try:
            answer = s3(bucket).delete_objects(
                Bucket=bucket, Delete={"Objects": objects, "Quiet": True}
            )
        except ClientError as error:
            if status_of(error) not in _NO_BULK:
                raise
            with ThreadPoolExecutor(DELETING_THREADS) as pool:
                for _ in pool.map(lambda key: _delete_one_s3(bucket, key), keys):
                    pass
            return
    for failure in answer.get("Errors", ()):
        if failure.get("Code") == "NoSuchKey":
            continue
        denied = failure.get("Code") == "AccessDenied"
        code = ErrorCode.ACCESS_DENIED if denied else ErrorCode.FETCH_FAILED
        raise StorageError(
            code, f"s3://{bucket}/{failure.get('Key')} can't be deleted: {failure.get('Message')}"
        )


def _delete_one_s3(bucket: str, key: str) -> None:
    with translated(f"s3://{bucket}/{key}"):
        try:
            s3(bucket).delete_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error_code(error) != "NoSuchKey":
                raise


def _etag(filesystem: Any, path: str) -> str | None:
    try:
        return file_info(filesystem, filesystem.info(path)).etag
    except FileNotFoundError:
        return None


@contextmanager
def _folder_locked(path: str) -> Iterator[None]:
    """Keeps out other writers that use this; the kernel lets go of it when a process dies."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
