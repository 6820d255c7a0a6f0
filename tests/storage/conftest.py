"""Folders on each kind of storage."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["local", "bucket", "seaweedfs_bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty folder."""
    if request.param == "local":
        return f"file://{tmp_path}"
    return f"s3://{request.getfixturevalue(request.param)}"
