"""Parts of objects: what shards of many images are read by, never whole."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from pipeline.schema import ErrorCode

from .access import (
    StorageError,
    error_code,
    filesystem_of,
    s3,
    s3_etag,
    split_s3,
    translated,
)
from .amazon import READ_ATTEMPTS
from .azure import read_azure_range
from .files import file_info

REPLACED = "the object was replaced while the run was on; the next run scores it"


def read_range(uri: str, etag: str, start: int, length: int) -> bytes:
    """So many bytes of one version of an object.

    Args:
        uri: the object.
        etag: its version, as a listing gave it.
        start: offset of the first byte.
        length: at least 1; the object must have them.

    Raises:
        StorageError: it can't be read; with the code ``changed`` if it is of another version.
    """
    with translated(uri):
        data, found = _read(uri, start, length)
    if found != etag:
        raise StorageError(ErrorCode.CHANGED, REPLACED)
    if len(data) != length:
        raise StorageError(
            ErrorCode.FETCH_FAILED,
            f"{uri}: {len(data):,} bytes came instead of {length:,} from byte {start:,} on",
        )
    return data


def _read(uri: str, start: int, length: int) -> tuple[bytes, str]:
    """The bytes, and the version that they are of."""
    if uri.startswith("s3://"):
        return _read_s3(uri, start, length)
    if uri.startswith("abfs://"):
        return read_azure_range(uri, start, length)
    filesystem, path = filesystem_of(uri)
    data: bytes = filesystem.cat_file(path, start=start, end=start + length)
    # Looked up last: an object that was replaced before or during the read shows.
    return data, file_info(filesystem, filesystem.info(path)).etag


def _read_s3(uri: str, start: int, length: int) -> tuple[bytes, str]:
    bucket, key = split_s3(uri)
    wanted = f"bytes={start}-{start + length - 1}"
    for attempt in range(1, READ_ATTEMPTS + 1):
        try:
            # No condition: the answer tells of which version it is, and not every server knows one.
            response: Any = s3(bucket).get_object(Bucket=bucket, Key=key, Range=wanted)
        except ClientError as error:
            if error_code(error) == "InvalidRange":  # it is shorter than it was
                raise StorageError(ErrorCode.CHANGED, REPLACED) from error
            raise
        if "ContentRange" not in response and response["ContentLength"] != length:
            response["Body"].close()  # it may be gigabytes
            raise StorageError(
                ErrorCode.FETCH_FAILED,
                f"{uri}: the server gives whole objects only, no ranges of them, by which shards "
                "are read",
            )
        try:
            data: bytes = response["Body"].read()
        except Exception:
            if attempt == READ_ATTEMPTS:
                raise
            continue
        size = int(response.get("ContentRange", "").rpartition("/")[2] or len(data))
        return data, s3_etag(response.get("ETag"), response.get("LastModified"), size)
    raise AssertionError("unreachable")
