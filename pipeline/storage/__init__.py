"""Objects by URI: listing, reading, writing. S3 through boto3, everything else through fsspec.

URIs are spelled as fsspec does (``s3://bucket/key``, ``file:///path``) and never percent-encoded:
what follows the bucket is the key, whatever characters it holds. S3 credentials, profiles and
endpoints are botocore's (AWS_PROFILE, AWS_ENDPOINT_URL, ...); nothing of them is kept or printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.schema import ErrorCode

from .access import (
    ConditionsRefusedError,
    ObjectInfo,
    StorageError,
    absolute,
    absolute_prefix,
    filesystem_of,
    key_of,
    s3,
    split_s3,
    translated,
)
from .amazon import ARCHIVES, LISTING_THREADS, list_s3, read_s3, stat_s3
from .arrow import arrow_filesystem
from .azure import list_azure, read_azure, stat_azure, write_azure
from .conditional import create_object, delete_objects, replace_file, replace_object
from .files import file_info, list_files, read_file
from .google import list_google
from .ranges import REPLACED, read_range

__all__ = [
    "ARCHIVES",
    "LISTING_THREADS",
    "REPLACED",
    "ConditionsRefusedError",
    "ObjectInfo",
    "StorageError",
    "absolute",
    "absolute_prefix",
    "arrow_filesystem",
    "create_object",
    "delete_objects",
    "key_of",
    "list_objects",
    "read_object",
    "read_range",
    "replace_object",
    "stat",
    "write_object",
]

# Those that have keys and no folders: "there is nothing below" is all that a listing can say.
_OBJECT_STORES = {"s3": list_s3, "gs": list_google, "abfs": list_azure}


def list_objects(folder: str) -> Iterator[list[ObjectInfo]]:
    """Pages of the objects below a folder (or the one object of that name), in no fixed order.

    Zero-byte keys that end in a slash are folder markers of S3 consoles and left out. Memory is
    bounded: at most ``amazon.LISTING_PAGES_AHEAD`` pages wait for the reader.

    Raises:
        StorageError: the folder, or one below it, can't be listed; what was listed before is not
            all there is.
    """
    folder = absolute(folder)
    scheme = folder.split("://", 1)[0]
    if scheme in _OBJECT_STORES:
        yield from _list_keys(folder, _OBJECT_STORES[scheme](folder))
    else:
        yield from list_files(folder)


def stat(uri: str) -> ObjectInfo:
    """Version and size of one object.

    Raises:
        StorageError: it does not exist or can't be reached.
    """
    with translated(uri):
        if uri.startswith("s3://"):
            return stat_s3(uri)
        if uri.startswith("abfs://"):
            return stat_azure(uri)
        filesystem, path = filesystem_of(uri)
        return file_info(filesystem, filesystem.info(path))


def read_object(uri: str) -> tuple[bytes, str]:
    """Body and ETag of an object; if a listing gave the same ETag, the body is that version.

    Raises:
        StorageError: it does not exist or can't be read.
    """
    with translated(uri):
        if uri.startswith("s3://"):
            return read_s3(uri)
        if uri.startswith("abfs://"):
            return read_azure(uri)
        if uri.startswith("file://"):
            return read_file(uri)
        filesystem, path = filesystem_of(uri)
        data = filesystem.cat_file(path)
        # Looked up last: an object that was replaced before or during the read shows.
        return data, file_info(filesystem, filesystem.info(path)).etag


def write_object(uri: str, data: bytes, content_type: str | None = None) -> None:
    """Write an object so that readers see all of it or nothing.

    Args:
        content_type: what a browser takes it for that opens it from S3, Azure or Google's storage,
            such as "text/html; charset=utf-8"; without one it downloads the object.

    Raises:
        StorageError: it can't be written.
    """
    uri = absolute(uri)
    with translated(uri):
        if uri.startswith("s3://"):
            bucket, key = split_s3(uri)
            options: Any = {"ContentType": content_type} if content_type else {}
            s3(bucket).put_object(Bucket=bucket, Key=key, Body=data, **options)
            return
        if uri.startswith("abfs://"):
            write_azure(uri, data, content_type)
            return
        filesystem, path = filesystem_of(uri)
        if not uri.startswith("file://"):
            of_gcsfs = {"content_type": content_type} if uri.startswith("gs://") else {}
            filesystem.pipe_file(path, data, **(of_gcsfs if content_type else {}))
            return
        replace_file(path, data)


def _list_keys(folder: str, pages: Iterator[list[ObjectInfo]]) -> Iterator[list[ObjectInfo]]:
    """A store's pages without folder markers; if nothing is in them, the object of that name."""
    found = False
    try:
        for page in pages:
            page = [o for o in page if o.size or not o.uri.endswith("/")]
            found = found or bool(page)
            if page:
                yield page
    except StorageError as error:
        # Who may read an object need not have the right to list.
        if found or error.code != ErrorCode.ACCESS_DENIED or not key_of(folder):
            raise
        try:
            info = stat(folder)
        except StorageError:
            raise error from None
        yield [info]
        return
    if not found and key_of(folder):
        try:
            info = stat(folder)
        except StorageError as error:
            if error.code != ErrorCode.NOT_FOUND:
                raise
        else:
            yield [info]
