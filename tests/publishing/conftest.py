"""Outputs and the tables that they are published to, in both formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from pipeline.config import Place, table_place

FORMATS = ["delta", "iceberg"]


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Where an output is to be, as a URI."""
    return f"file://{tmp_path}/out"


@pytest.fixture(params=FORMATS)
def make_place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Place]:
    """Names a table below a folder that is not there yet; the environment has Iceberg's catalog."""

    def make(root: str) -> Place:
        if request.param == "delta":
            return table_place(f"delta://{root}/tables/scores")
        name = f"test{uuid4().hex[:8]}"
        monkeypatch.setenv(f"PYICEBERG_CATALOG__{name.upper()}__URI", f"sqlite:///{tmp_path}/c.db")
        monkeypatch.setenv(f"PYICEBERG_CATALOG__{name.upper()}__WAREHOUSE", f"{root}/warehouse")
        return table_place(f"iceberg://{name}/factory/scores")

    return make


@pytest.fixture
def place(make_place: Callable[[str], Place], tmp_path: Path) -> Place:
    """Where a table is to be, on a disk."""
    return make_place(f"file://{tmp_path}")
