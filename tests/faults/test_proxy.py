"""The proxy does what a plan says, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    IncompleteReadError,
    ResponseStreamingError,
)

from tests.faults.plan import Fault, Plan
from tests.faults.proxy import Proxy, running


@dataclass(frozen=True)
class Always(Plan):
    """One fault for every request of a method."""

    method: str = "GET"
    kind: Fault | None = None

    def fault(self, method: str, target: str, attempt: int) -> Fault | None:
        return self.kind if method == self.method else None


@pytest.fixture
def proxy(s3: dict[str, str]) -> Proxy:
    def change(name: str, key: str, fault: Fault) -> None:
        boto3.client("s3").put_object(Bucket=name, Key=key, Body=fault.name.encode())

    return Proxy(s3["AWS_ENDPOINT_URL"], change)


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Any]:
    """An S3 client behind the proxy that tries once."""
    with running(proxy) as endpoint:
        yield boto3.client(
            "s3", endpoint_url=endpoint, config=Config(retries={"total_max_attempts": 1})
        )


def test_without_faults_nothing_changes(client: Any, bucket: str) -> None:
    body = bytes(range(256)) * 1000
    for key in ("in/a b+50%#ö.bin", "in/empty"):
        data = body if key != "in/empty" else b""
        client.put_object(Bucket=bucket, Key=key, Body=data, Metadata={"name": "value"})
        found = client.get_object(Bucket=bucket, Key=key)
        assert (found["Body"].read(), found["Metadata"]) == (data, {"name": "value"})
        assert client.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(data)
    ranged = client.get_object(Bucket=bucket, Key="in/a b+50%#ö.bin", Range="bytes=10-19")
    assert ranged["Body"].read() == body[10:20]
    listed = client.list_objects_v2(Bucket=bucket, Prefix="in/a b", Delimiter="/")
    assert [o["Key"] for o in listed["Contents"]] == ["in/a b+50%#ö.bin"]
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.get_object(Bucket=bucket, Key="absent")
    client.delete_object(Bucket=bucket, Key="in/empty")
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Fault.SLOW_DOWN, ClientError, "SlowDown"),
        (Fault.RESET, ConnectionClosedError, "closed"),
        (Fault.CUT, (IncompleteReadError, ResponseStreamingError), "read"),
    ],
)
def test_reads_fail_as_planned(
    client: Any, bucket: str, proxy: Proxy, fault: Fault, error: type[Exception], words: str
) -> None:
    client.put_object(Bucket=bucket, Key="a", Body=b"x" * 100_000)
    proxy.start(Always(kind=fault))
    with pytest.raises(error, match=words):
        client.get_object(Bucket=bucket, Key="a")["Body"].read()
    assert proxy.injected == {fault: 1}
    proxy.start(Plan())
    assert client.get_object(Bucket=bucket, Key="a")["ContentLength"] == 100_000


@pytest.mark.parametrize(
    ("fault", "applied"), [(Fault.PUT_LOST, False), (Fault.PUT_UNACKNOWLEDGED, True)]
)
def test_a_failed_put_may_have_been_applied(
    client: Any, bucket: str, proxy: Proxy, fault: Fault, applied: bool
) -> None:
    proxy.start(Always(method="PUT", kind=fault))
    with pytest.raises((ClientError, ConnectionClosedError)):
        client.put_object(Bucket=bucket, Key="a", Body=b"x")
    assert (boto3.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] == 1) == applied


def test_credentials_expire_after_some_requests(client: Any, bucket: str, proxy: Proxy) -> None:
    proxy.start(Plan(expire_after=2))
    client.list_objects_v2(Bucket=bucket)
    client.list_objects_v2(Bucket=bucket)
    for _ in range(2):
        with pytest.raises(ClientError, match="ExpiredToken"):
            client.list_objects_v2(Bucket=bucket)
    assert proxy.injected == {Fault.EXPIRED: 2}


def test_an_object_changes_once_when_it_is_first_read(
    client: Any, bucket: str, proxy: Proxy
) -> None:
    client.put_object(Bucket=bucket, Key="in/a b.jpg", Body=b"old")
    proxy.start(Plan(changes={"in/a b.jpg": Fault.GROWN}))
    assert client.list_objects_v2(Bucket=bucket)["Contents"][0]["Size"] == 3
    assert client.head_object(Bucket=bucket, Key="in/a b.jpg")["ContentLength"] == 3
    for _ in range(2):
        assert client.get_object(Bucket=bucket, Key="in/a b.jpg")["Body"].read() == b"GROWN"
    assert proxy.injected == {Fault.GROWN: 1}
