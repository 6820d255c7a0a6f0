"""What every access to storage shares: URIs, clients, and one kind of error.

Buckets that need more than credentials are named in the environment, like those: see
``ANONYMOUS`` and its neighbours, and docs/stores.md.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import fsspec
from botocore.exceptions import ClientError, FlexibleChecksumError, NoCredentialsError

from pipeline.errors import ExpectedError
from pipeline.redaction import redact
from pipeline.schema import ErrorCode

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_CONNECTIONS = 64  # per process; boto3's default of 10 would throttle the fetching threads
# S3 answers these with 400 (S3 API reference, "Error responses").
EXPIRED = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired")

ANONYMOUS = "ADACLIP_S3_ANONYMOUS"  # buckets, with commas between them, asked without a signature
REQUESTER_PAYS = "ADACLIP_S3_REQUESTER_PAYS"  # buckets whose requests the own account pays
ENCRYPTION = "ADACLIP_S3_ENCRYPTION"  # of what is written: AES256, aws:kms or aws:kms:dsse
KMS_KEY = "ADACLIP_S3_KMS_KEY"

CHECKSUMS_REMEDY = (
    "the server may not know the AWS SDK's checksums: set "
    "AWS_REQUEST_CHECKSUM_CALCULATION=when_required and "
    "AWS_RESPONSE_CHECKSUM_VALIDATION=when_required for every process"
)

# Amazon Resource Names stand where a bucket's name would, with a slash or colon of their own (S3
# user guide, "Referencing access points"; arn:partition:service:region:account:resource).
_ARN = re.compile(
    r"(arn:[^:/]*:s3[a-z-]*:[^:/]*:[^:/]*:(?:outpost[:/][^:/]+[:/])?accesspoint[:/][^:/]+)(?:/(.*))?",
    re.DOTALL,
)

_SCHEMES = {"s3a": "s3", "gcs": "gs", "local": "file", "az": "abfs", "abfss": "abfs"}

_client_lock = threading.Lock()


class StorageError(ExpectedError):
    """An object that can't be listed, read or written; ``code`` says why."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions are pickled by their message alone, and then made with too little."""
        return type(self), (self.code, str(self))


class ConditionsRefusedError(StorageError):
    """The store takes no write under a condition, whether it holds or not."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing."""

    uri: str
    etag: str
    """Opaque version: equal means unchanged."""
    size: int
    """Bytes."""
    last_modified: datetime | None
    archived: bool = False
    """Whether it must be restored before it can be read."""


def absolute(uri: str) -> str:
    """A URI with its scheme and without a trailing slash; local paths become absolute."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return f"file://{os.path.abspath(os.path.expanduser(uri))}"
    scheme = _SCHEMES.get(scheme, scheme)
    if scheme == "file":
        return f"file://{os.path.abspath(rest)}"  # as listings spell it: no "//", no ".."
    return f"{scheme}://{rest.rstrip('/')}" if rest.strip("/") else f"{scheme}:///"


def absolute_prefix(text: str) -> str:
    """What the absolute URIs begin with that begin with a text: as ``absolute``, "/" kept at its
    end.

    Raises:
        ValueError: the text is empty.
    """
    if not text:
        raise ValueError("the prefix is empty; leave it out to mean every URI")
    if text.endswith("://"):
        return text
    uri = absolute(text)
    return f"{uri}/" if text.endswith("/") and not uri.endswith("/") else uri


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket, or the ARN of an access point, and key."""
    rest = uri.removeprefix("s3://")
    if found := _ARN.fullmatch(rest):
        return found[1], found[2] or ""
    bucket, _, key = rest.partition("/")
    return bucket, key


def key_of(uri: str) -> str:
    """What stands after the bucket, the container or the local root."""
    if uri.startswith("s3://"):
        return split_s3(uri)[1]
    return uri.split("://", 1)[1].partition("/")[2]


def s3(bucket: str) -> S3Client:
    """One client a process: using it is thread-safe and reuses connections, making it is not."""
    with _client_lock:
        return _anonymous_client() if is_named(ANONYMOUS, bucket) else s3_client()


def is_named(variable: str, bucket: str) -> bool:
    """Whether a variable of the environment lists this bucket."""
    return bucket in [name.strip() for name in os.environ.get(variable, "").split(",")]


@lru_cache(maxsize=1)
def s3_client() -> S3Client:
    return _make_client()


@lru_cache(maxsize=1)
def _anonymous_client() -> S3Client:
    from botocore import UNSIGNED

    return _make_client(signature_version=UNSIGNED)


def _make_client(**options: Any) -> S3Client:
    # Not above: 25 MB and 0.15 s, in every process of a run over another store.
    import boto3
    import botocore.session
    from botocore.config import Config

    # Waits 7 s on average, 15 s at most, before an endpoint that refuses is given up.
    retries: Any = {"mode": "standard", "total_max_attempts": 5}
    config = Config(
        retries=retries,
        max_pool_connections=MAX_CONNECTIONS,
        connect_timeout=10,
        read_timeout=60,
        **options,
    )
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    client = boto3.session.Session(botocore_session=core).client("s3", config=config)
    client.meta.events.register("before-parameter-build.s3", _add_bucket_settings)
    return client


def _add_bucket_settings(params: dict[str, Any], model: Any, **_: Any) -> None:
    """To every request: what the environment says of its bucket."""
    if "RequestPayer" in model.input_shape.members and is_named(REQUESTER_PAYS, params["Bucket"]):
        params["RequestPayer"] = "requester"
    if model.name == "PutObject" and (encryption := os.environ.get(ENCRYPTION)):
        params["ServerSideEncryption"] = encryption
        if key := os.environ.get(KMS_KEY):
            params["SSEKMSKeyId"] = key


def s3_etag(etag: str | None, modified: datetime | None = None, size: int = 0) -> str:
    """One spelling: some servers leave out the quotes, in listings only or everywhere.

    Returns:
        The ETag in its quotes; where a server gives none, time and size instead.
    """
    if not etag and modified:  # listings are exact to less than a second, answers are not
        return f'"{modified.timestamp():.0f}-{size}"'
    return f'"{(etag or "").removeprefix("W/").strip(chr(34))}"'


def _timestamp(value: Any) -> datetime:
    """The ISO times of listings, for which botocore's own parser takes two thirds of the time."""
    if isinstance(value, str) and value.endswith("Z"):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    from botocore.utils import parse_timestamp

    return parse_timestamp(value)


def filesystem_of(uri: str, **options: Any) -> tuple[Any, str]:
    """fsspec's filesystem and the path in it, without parsing the key as fsspec.open would."""
    scheme, rest = uri.split("://", 1)
    if scheme == "abfs" and "@" in rest.split("/", 1)[0]:
        raise StorageError(
            ErrorCode.FETCH_FAILED,
            f"{uri} names an account: set AZURE_STORAGE_ACCOUNT_NAME instead, and write "
            "abfs://container/prefix",
        )
    try:
        # Listings change while this process runs, so none is cached.
        filesystem = fsspec.filesystem(scheme, use_listings_cache=False, **options)
        return filesystem, uri if scheme in ("http", "https") else rest
    except (ImportError, ValueError) as error:
        extra = "; pip install 'adaclip-pipeline[azure]'" if scheme == "abfs" else ""
        message = f"{scheme}:// can't be read: {error}{extra}"
        raise StorageError(ErrorCode.FETCH_FAILED, message) from error


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turns the exceptions of boto3, fsspec and the system into ``StorageError``."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        # Azure's go on with the request's number and the answer's text.
        message = str(error).split("\nRequestId:")[0] or type(error).__name__
        if "Invalid header value" in message:  # and here it would quote a credential
            message = "a credential holds a line break or another character that HTTP refuses"
            raise StorageError(ErrorCode.ACCESS_DENIED, f"{uri}: {message}") from None
        message = "; ".join(filter(None, (f"{uri}: {message}", _remedy(error))))
        told = redact(message)
        # A traceback would show the cause as well, so one with a secret is left behind.
        cause = error if told == message else None
        raise StorageError(_code(error), told) from cause


def _remedy(error: Exception) -> str:
    """What a user can do about an error whose own words don't say it."""
    if isinstance(error, FlexibleChecksumError):
        return CHECKSUMS_REMEDY
    if isinstance(error, NoCredentialsError):
        return f"if the bucket is public, name it in {ANONYMOUS}"
    if not isinstance(error, ClientError):
        return ""
    if error.operation_name == "PutObject" and status_of(error) == 501 and sends_checksums():
        return CHECKSUMS_REMEDY
    if error_code(error) == "InvalidObjectState":
        return "it is archived; restore it, and the next run scores it"
    return ""


def sends_checksums() -> bool:
    """Whether the SDK adds checksums to what it writes, which some servers don't know."""
    config: Any = s3_client().meta.config
    return bool(config.request_checksum_calculation != "when_required")


def error_code(error: ClientError) -> str:
    """What S3 calls it, such as "NoSuchKey"."""
    return error.response.get("Error", {}).get("Code", "")


def status_of(error: Exception) -> int | None:
    """The HTTP status of an answer, which every library keeps elsewhere."""
    if isinstance(error, ClientError):
        return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    found = (getattr(error, name, None) for name in ("status_code", "status", "code"))
    return next((status for status in found if isinstance(status, int)), None)


def _code(error: Exception) -> ErrorCode:
    status = status_of(error)
    expired = isinstance(error, ClientError) and error_code(error) in EXPIRED
    if status in (401, 403) or expired:
        return ErrorCode.ACCESS_DENIED
    if isinstance(error, NoCredentialsError | PermissionError) or "Forbidden" in str(error):
        return ErrorCode.ACCESS_DENIED
    gone = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
    return ErrorCode.NOT_FOUND if gone or status == 404 else ErrorCode.FETCH_FAILED
