"""Manifests of small folders, built as a run does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.config import ScoreConfig
from pipeline.identity import ModelIdentity
from pipeline.inputs.manifest import Manifest, build_manifest
from pipeline.output.ledger import IdSet
from pipeline.schema import MANIFEST_SCHEMA
from pipeline.storage import arrow_filesystem

MODEL = "model-1"
IDENTITY = ModelIdentity(MODEL)
Rows = list[dict[str, Any]]


def write(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def build(config: ScoreConfig, done: IdSet | None = None) -> tuple[Manifest, Rows]:
    """The manifest and its rows, with what must hold for every manifest."""
    folder = f"{config.output}/runs/{len(list(Path(config.output).glob('runs/*')))}/manifest"
    manifest = build_manifest(config, IDENTITY, IdSet() if done is None else done, folder)
    rows: Rows = []
    for uri in manifest.files:
        filesystem, path = arrow_filesystem(uri)
        table = pq.read_table(path, filesystem=filesystem)
        assert table.schema.equals(MANIFEST_SCHEMA)
        rows += table.to_pylist()
    assert len(rows) == len({row["image_id"] for row in rows}) == manifest.pending
    assert manifest.listed == manifest.skipped + manifest.pending
    return manifest, rows


def names(rows: Rows) -> list[str]:
    return sorted(row["uri"].rsplit("/", 1)[1] for row in rows)


def categories(config: ScoreConfig) -> dict[str, str | None]:
    """Class name by file name."""
    return {row["uri"].rsplit("/", 1)[1]: row["category"] for row in build(config)[1]}
