"""S3-compatible servers that do some things otherwise: what was found on real ones, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest
from botocore.awsrequest import AWSResponse

from pipeline.schema import ErrorCode
from pipeline.storage import (
    ConditionsRefusedError,
    access,
    arrow_filesystem,
    create_object,
    delete_objects,
    list_objects,
    read_object,
    replace_object,
    stat,
    write_object,
)

from .calls import failure, list_all, listed
from .odd_s3 import OddS3, etag
from .server import Handler, answer, serving

PointAt = Callable[[str], None]


def test_an_etag_without_quotes_in_a_listing_is_the_same_version(point_at: PointAt) -> None:
    """rclone: every row became "changed", every night."""
    store = OddS3(lists_bare_etags=True, objects={"in/a.png": b"a"})
    with store.running() as endpoint:
        point_at(endpoint)
        (info,) = listed("s3://bucket/in").values()
        assert info.etag == read_object(info.uri)[1] == stat(info.uri).etag == etag(b"a")


def test_versions_of_a_server_without_etags_are_time_and_size(point_at: PointAt) -> None:
    def respond(handler: Handler) -> None:
        if "list-type" in handler.path:
            entry = (
                "<Key>in/a.png</Key><Size>1</Size>"
                "<LastModified>2001-09-09T01:46:40.123Z</LastModified>"
            )
            body = f"<ListBucketResult><Contents>{entry}</Contents></ListBucketResult>"
            answer(handler, body.encode())
        else:
            answer(handler, b"a", Last_Modified="Sun, 09 Sep 2001 01:46:40 GMT")

    with serving(respond) as endpoint:
        point_at(endpoint)
        (info,) = listed("s3://bucket/in").values()
        assert info.etag == read_object(info.uri)[1] == stat(info.uri).etag == '"1000000000-1"'


def test_if_match_is_tried_without_quotes_where_quotes_never_match(point_at: PointAt) -> None:
    """Ceph radosgw 16: the lock of an output could never be renewed nor given back."""
    store = OddS3(wants_bare_etags=True)
    with store.running() as endpoint:
        point_at(endpoint)
        first = create_object("s3://bucket/a", b"1")
        assert first == etag(b"1")
        assert replace_object("s3://bucket/a", b"2", first) == etag(b"2")
        assert replace_object("s3://bucket/a", b"3", first) is None
    assert store.objects["a"] == b"2"


@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
def test_a_store_that_refuses_conditions_is_told_from_one_whose_object_changed(
    header: str, point_at: PointAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("s3://bucket/a", b"2", etag(b"1")) if header == "if-match" else ("s3://b/c", b"")
    action: Callable[..., Any] = replace_object if header == "if-match" else create_object
    with OddS3(refuses={header: 501}, objects={"a": b"1"}).running() as endpoint:
        point_at(endpoint)
        error = failure(action, *arguments)
        assert isinstance(error, ConditionsRefusedError)
        assert "refuses a write under a condition" in str(error)
        assert "AWS_REQUEST_CHECKSUM_CALCULATION" in str(error)  # may be the reason as well
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        point_at(endpoint)
        assert "AWS_REQUEST" not in str(failure(action, *arguments))


def test_a_store_that_never_finds_the_etag_equal_ends_with_a_sentence(point_at: PointAt) -> None:
    with OddS3(refuses={"if-match": 412}, objects={"a": b"1"}).running() as endpoint:
        point_at(endpoint)
        with pytest.raises(ConditionsRefusedError, match="though that is the object's ETag"):
            replace_object("s3://bucket/a", b"2", etag(b"1"))


@pytest.mark.parametrize("status", [400, 501])
def test_objects_are_deleted_one_by_one_where_bulk_deletes_are_refused(
    status: int, point_at: PointAt
) -> None:
    """For want of Content-MD5, or as MalformedXML of 1,000 keys: compact never finished."""
    store = OddS3(refuses={"POST ": status}, objects={f"d/{i}": b"x" for i in range(30)})
    with store.running() as endpoint:
        point_at(endpoint)
        delete_objects(f"s3://bucket/d/{i}" for i in [*range(29), 99])
    assert list(store.objects) == ["d/29"]


def test_a_key_that_cannot_be_deleted_by_itself_either_is_named(point_at: PointAt) -> None:
    with OddS3(refuses={"POST ": 501, "DELETE ": 400}).running() as endpoint:
        point_at(endpoint)
        assert "s3://bucket/d/1" in str(failure(delete_objects, ["s3://bucket/d/1"]))


def test_a_server_that_does_not_know_checksums_is_an_error_with_the_two_variables(
    point_at: PointAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = OddS3(refuses={"x-amz-checksum-crc32": 501})
    with store.running() as endpoint:
        point_at(endpoint)
        error = failure(write_object, "s3://bucket/a", b"1")
        assert "AWS_REQUEST_CHECKSUM_CALCULATION=when_required" in str(error)
        assert "AWS_RESPONSE_CHECKSUM_VALIDATION=when_required" in str(error)
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        point_at(endpoint)
        write_object("s3://bucket/a", b"1")
    assert store.objects["a"] == b"1"


def test_a_range_with_the_whole_objects_checksum_is_an_error_with_the_two_variables(
    point_at: PointAt,
) -> None:
    """Arrow reads ranges; the SDK's own exception ended in a traceback."""

    def respond(handler: Handler) -> None:
        body = b"PAR1" + bytes(1000) + b"PAR1"
        named = {"ETag": '"e"', "x-amz-checksum-crc32": "AAAAAA==", "Accept-Ranges": "bytes"}
        if given := handler.headers.get("Range"):
            first, last = map(int, given.removeprefix("bytes=").split("-"))
            body, whole = body[first : last + 1], len(body)
            named["Content-Range"] = f"bytes {first}-{last}/{whole}"
        status = 206 if given else 200
        named["Last-Modified"] = "Sun, 09 Sep 2001 01:46:40 GMT"
        answer(handler, body, status=status, **named)

    def read(uri: str) -> None:
        filesystem, path = arrow_filesystem(uri)
        pq.read_table(path, filesystem=filesystem)

    with serving(respond) as endpoint:
        point_at(endpoint)
        error = failure(read, "s3://bucket/list.parquet")
    assert "AWS_RESPONSE_CHECKSUM_VALIDATION=when_required" in str(error)
    assert "bucket/list.parquet" in str(error)


def test_a_sub_prefix_that_may_not_be_listed_is_an_error_that_names_it(point_at: PointAt) -> None:
    """More than a page of keys is listed folder by folder."""
    objects = {f"in/{d}/{n}.png": b"a" for d, n in (("open", "a"), ("open", "b"), ("secret", "a"))}
    store = OddS3(denied="prefix=in/secret", page=2, objects=objects)
    with store.running() as endpoint:
        point_at(endpoint)
        error = failure(list_all, "s3://bucket/in")
    assert error.code == ErrorCode.ACCESS_DENIED
    assert "s3://bucket/in/secret/" in str(error)


def test_what_fits_in_a_page_is_listed_in_one_request(point_at: PointAt) -> None:
    store = OddS3(objects={f"in/{d}/a.png": b"a" for d in range(9)})
    with store.running() as endpoint:
        point_at(endpoint)
        assert len(listed("s3://bucket/in")) == 9
    assert len(store.requests) == 1


def test_a_listing_that_goes_on_and_does_not_say_where_is_an_error(point_at: PointAt) -> None:
    body = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    with serving(lambda handler: answer(handler, body)) as endpoint:
        point_at(endpoint)
        assert "left out" in str(failure(list_all, "s3://bucket/in"))


def test_a_single_object_needs_no_right_to_list(point_at: PointAt) -> None:
    with OddS3(denied="list-type", objects={"in/a.png": b"a"}).running() as endpoint:
        point_at(endpoint)
        assert list(listed("s3://bucket/in/a.png")) == ["s3://bucket/in/a.png"]
        error = failure(list_all, "s3://bucket/in")
        assert error.code == ErrorCode.ACCESS_DENIED
        assert "ListObjectsV2" in str(error)


def test_archived_objects_show_in_the_listing_unless_a_restored_copy_is_there(
    point_at: PointAt,
) -> None:
    classes = {"in/a.png": "DEEP_ARCHIVE", "in/b.png": "GLACIER", "in/c.png": "GLACIER_IR"}
    store = OddS3(classes=classes, restored={"in/b.png"}, objects=dict.fromkeys(classes, b"x"))
    with store.running() as endpoint:
        point_at(endpoint)
        found = {uri[-5:]: info.archived for uri, info in listed("s3://bucket/in").items()}
    assert found == {"a.png": True, "b.png": False, "c.png": False}


@pytest.mark.parametrize(
    ("headers", "archived"),
    [
        ({"x-amz-storage-class": "GLACIER"}, True),
        ({"x-amz-storage-class": "INTELLIGENT_TIERING"}, False),
        ({"x-amz-storage-class": "INTELLIGENT_TIERING", "x-amz-archive-status": "ARCHIVE_ACCESS"},
         True),
        ({"x-amz-storage-class": "GLACIER", "x-amz-restore": 'ongoing-request="true"'}, True),
        ({"x-amz-storage-class": "GLACIER",
          "x-amz-restore": 'ongoing-request="false", expiry-date="Fri, 21 Dec 2099 00:00:00 GMT"'},
         False),
    ],
)  # fmt: skip
def test_looking_up_one_object_tells_of_an_archive_too(
    headers: dict[str, str], archived: bool, point_at: PointAt
) -> None:
    modified = {"Last-Modified": "Sun, 09 Sep 2001 01:46:40 GMT"}
    with serving(lambda h: answer(h, b"x", ETag='"e"', **modified, **headers)) as endpoint:
        point_at(endpoint)
        assert stat("s3://bucket/a.png").archived == archived


def test_an_archived_object_that_only_shows_when_it_is_read_says_so(point_at: PointAt) -> None:
    body = b"<Error><Code>InvalidObjectState</Code></Error>"
    with serving(lambda handler: answer(handler, body, status=403)) as endpoint:
        point_at(endpoint)
        assert "archived; restore it" in str(failure(read_object, "s3://bucket/a.png"))


def test_named_buckets_are_paid_for_asked_without_a_signature_and_encrypted(
    point_at: PointAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADACLIP_S3_REQUESTER_PAYS", "payer, other")
    monkeypatch.setenv("ADACLIP_S3_ANONYMOUS", "public")
    monkeypatch.setenv("ADACLIP_S3_ENCRYPTION", "aws:kms")
    monkeypatch.setenv("ADACLIP_S3_KMS_KEY", "alias/results")
    store = OddS3(objects={"in/a.png": b"a"})
    with store.running() as endpoint:
        point_at(endpoint)
        for bucket in ("payer", "public", "usual"):
            list_all(f"s3://{bucket}/in")
            read_object(f"s3://{bucket}/in/a.png")
        write_object("s3://usual/b", b"1")
        create_object("s3://usual/c", b"1")
    for line, headers in store.requests:
        assert ("x-amz-request-payer" in headers) == ("/payer" in line)
        assert ("authorization" in headers) == ("/public" not in line)
        encrypted = [headers.get(f"x-amz-server-side-encryption{more}") for more in
                     ("", "-aws-kms-key-id")]  # fmt: skip
        assert encrypted == (["aws:kms", "alias/results"] if "PUT" in line else [None, None])


def test_a_missing_credential_names_the_setting_for_public_buckets(
    point_at: PointAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    point_at("http://127.0.0.1:9")
    error = failure(read_object, "s3://bucket/a.png")
    assert error.code == ErrorCode.ACCESS_DENIED
    assert "ADACLIP_S3_ANONYMOUS" in str(error)


ACCESS_POINT = "arn:aws:s3:us-east-1:123456789012:accesspoint"


@pytest.mark.parametrize("separator", ["/", ":"])
def test_an_access_points_arn_stands_for_a_bucket(
    separator: str, point_at: PointAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at("")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    asked: list[str] = []

    def instead(request: Any, **_: Any) -> AWSResponse:
        asked.append(request.url)
        headers = {"ETag": '"e"', "Last-Modified": "Sun, 09 Sep 2001 01:46:40 GMT"}
        return AWSResponse(request.url, 200, headers, Raw(b"a"))

    access.s3_client().meta.events.register("before-send.s3", instead)
    uri = f"s3://{ACCESS_POINT}{separator}line/in/a@b.png"
    assert read_object(uri) == (b"a", '"e"')
    assert asked == [
        "https://line-123456789012.s3-accesspoint.us-east-1.amazonaws.com/in/a%40b.png"
    ]
    assert access.key_of(uri) == "in/a@b.png"


class Raw:
    """A body as urllib3 gives it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def read(self, *_: Any) -> bytes:
        body, self._body = self._body, b""
        return body

    def stream(self, *_: Any) -> list[bytes]:
        return [self.read()]


def test_what_is_left_early_and_what_is_empty_stays_as_it_was(point_at: PointAt) -> None:
    with OddS3(objects={"in/": b"", "in/a.png": b"a"}).running() as endpoint:
        point_at(endpoint)
        next(iter(list_objects("s3://bucket/in")))
        assert listed("s3://bucket/nothing") == {}
