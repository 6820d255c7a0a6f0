"""A Ray of their own for the tests of a module that call it in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(scope="module")
def local_ray(s3: dict[str, str]) -> Iterator[None]:
    """A local Ray of three CPUs whose workers see the S3 server."""
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
