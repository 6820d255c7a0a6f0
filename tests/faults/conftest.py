"""One world for all scenarios: its start takes longer than any of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .world import World, world


@pytest.fixture(scope="package")
def faulty_world(s3: dict[str, str]) -> Iterator[World]:
    """A cluster of two nodes behind a faulty way to the S3 server."""
    with world(s3["AWS_ENDPOINT_URL"]) as running:
        yield running
