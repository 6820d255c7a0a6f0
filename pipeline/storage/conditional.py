"""Writes that happen only if nobody else wrote, and deletes in bulk.

Conditions are S3's own (``If-None-Match``, ``If-Match``). Local files are compared and replaced
under a lock on their folder, which holds among the processes of one machine and, where the file
system carries ``flock`` over, among those that share a disk. On Google Cloud Storage creating is
conditional and replacing is not: fsspec hands no generation on, so between comparing and writing
another writer may slip in. The same holds for both on any other file system.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError

from pipeline.schema import ErrorCode

from .access import StorageError, absolute, file_info, filesystem_of, s3, split_s3, translated

DELETED_AT_ONCE = 1_000  # the most that S3 takes in a request
# 412: the condition does not hold. 409: another conditional write was under way at the same time.
_REFUSED = (409, 412)


def create_object(uri: str, data: bytes) -> str | None:
    """Write an object if there is none of that name.

    A request that S3 carried out and whose answer got lost is sent again by botocore and then finds
    its own object: whoever must know reads it when the answer is None.

    Returns:
        The ETag, or None if there is one.

    Raises:
        StorageError: it can't be written.
    """
    return _write_if(absolute(uri), data, None)


def replace_object(uri: str, data: bytes, etag: str) -> str | None:
    """Write an object if the one of that name still has this ETag.

    Returns:
        The new ETag, or None if the object was replaced or deleted; see ``create_object``.

    Raises:
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
            return _put_s3_if(uri, data, etag)
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


def _put_s3_if(uri: str, data: bytes, etag: str | None) -> str | None:
    bucket, key = split_s3(uri)
    condition: Any = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
    try:
        return s3().put_object(Bucket=bucket, Key=key, Body=data, **condition)["ETag"]
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        gone = etag is not None and error.response["Error"]["Code"] == "NoSuchKey"
        if status in _REFUSED or gone:
            return None
        raise


def _delete_s3(bucket: str, keys: list[str]) -> None:
    with translated(f"s3://{bucket}"):
        objects: Any = [{"Key": key} for key in keys]
        answer = s3().delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    for error in answer.get("Errors", ()):
        denied = error.get("Code") == "AccessDenied"
        code = ErrorCode.ACCESS_DENIED if denied else ErrorCode.FETCH_FAILED
        raise StorageError(
            code, f"s3://{bucket}/{error.get('Key')} can't be deleted: {error.get('Message')}"
        )


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
