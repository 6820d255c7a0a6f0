"""What every access to storage shares: URIs, clients, and one kind of error."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import fsspec
from botocore.config import Config
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.utils import parse_timestamp

from pipeline.redaction import redact
from pipeline.schema import ErrorCode

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_CONNECTIONS = 64  # per process; boto3's default of 10 would throttle the fetching threads
# S3 answers these with 400 (S3 API reference, "Error responses").
EXPIRED = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired")

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


def file_info(filesystem: Any, entry: dict[str, Any]) -> ObjectInfo:
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


def split_s3(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def s3() -> S3Client:
    """One client a process: using it is thread-safe and reuses connections, making it is not."""
    with _client_lock:
        return s3_client()


@lru_cache(maxsize=1)
def s3_client() -> S3Client:
    # Waits 7 s on average, 15 s at most, before an endpoint that refuses is given up.
    retries: Any = {"mode": "standard", "total_max_attempts": 5}
    config = Config(
        retries=retries, max_pool_connections=MAX_CONNECTIONS, connect_timeout=10, read_timeout=60
    )
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    return boto3.session.Session(botocore_session=core).client("s3", config=config)


def _timestamp(value: Any) -> datetime:
    """The ISO times of listings, for which botocore's own parser takes two thirds of the time."""
    if isinstance(value, str) and value.endswith("Z"):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    return parse_timestamp(value)


def filesystem_of(uri: str, **options: Any) -> tuple[Any, str]:
    """fsspec's filesystem and the path in it, without parsing the key as fsspec.open would."""
    scheme, rest = uri.split("://", 1)
    try:
        # Listings change while this process runs, so none is cached.
        filesystem = fsspec.filesystem(scheme, use_listings_cache=False, **options)
        return filesystem, uri if scheme in ("http", "https") else rest
    except (ImportError, ValueError) as error:
        raise StorageError(ErrorCode.FETCH_FAILED, f"{scheme}:// can't be read: {error}") from error


@contextmanager
def translated(uri: str) -> Iterator[None]:
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
        told = redact(f"{uri}: {message}")
        # A traceback would show the cause as well, so one with a secret is left behind.
        cause = error if told == f"{uri}: {message}" else None
        raise StorageError(_code(error), told) from cause


def _code(error: Exception) -> ErrorCode:
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status in (401, 403) or error.response.get("Error", {}).get("Code") in EXPIRED:
            return ErrorCode.ACCESS_DENIED
        return ErrorCode.NOT_FOUND if status == 404 else ErrorCode.FETCH_FAILED
    if isinstance(error, NoCredentialsError | PermissionError) or "Forbidden" in str(error):
        return ErrorCode.ACCESS_DENIED
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return ErrorCode.NOT_FOUND
    return ErrorCode.FETCH_FAILED
