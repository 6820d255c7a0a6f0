"""Folders on both kinds of storage, and an S3 client that looks elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from infra.local import LOCAL_CREDENTIALS
from pipeline.storage import (
    access,
)


@pytest.fixture(params=["local", "bucket", "seaweedfs_bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty folder."""
    if request.param == "local":
        return f"file://{tmp_path}"
    return f"s3://{request.getfixturevalue(request.param)}"


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Points the S3 client at another endpoint for the length of the test."""
    for name, value in LOCAL_CREDENTIALS.items():
        monkeypatch.setenv(name, value)

    def point(endpoint: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        access.s3_client.cache_clear()

    yield point
    access.s3_client.cache_clear()
