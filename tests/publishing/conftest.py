"""Outputs and the tables that they are published to: both formats, on a disk and over S3."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from pipeline.config import Place, table_place

FORMATS = ["delta", "iceberg"]


@pytest.fixture(params=["local", pytest.param("bucket", marks=pytest.mark.slow)])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty folder."""
    if request.param == "local":
        return f"file://{tmp_path}"
    return f"s3://{request.getfixturevalue(request.param)}"


@pytest.fixture
def output(root: str) -> str:
    """Where an output is to be."""
    return f"{root}/out"


def make_place(kind: str, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A table that is not there yet; Iceberg's catalog is described by the environment."""
    if kind == "delta":
        return table_place(f"delta://{root}/tables/scores")
    name = f"test{uuid4().hex[:8]}"
    monkeypatch.setenv(f"PYICEBERG_CATALOG__{name.upper()}__URI", f"sqlite:///{tmp_path}/c.db")
    monkeypatch.setenv(f"PYICEBERG_CATALOG__{name.upper()}__WAREHOUSE", f"{root}/warehouse")
    return table_place(f"iceberg://{name}/factory/scores")


@pytest.fixture(params=FORMATS)
def place(
    request: pytest.FixtureRequest, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """Where a table is to be."""
    return make_place(request.param, root, tmp_path, monkeypatch)
