"""The README's Python runs as it stands, against an output on a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

import pipeline.models
from pipeline.models import AdaCLIP
from pipeline.storage import stat
from tests import golden
from tests.bucket import jpeg, put
from tests.outputs import scored, write
from tests.snippets import python_blocks, run_blocks


@pytest.fixture
def output(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden_files: dict[str, str]
) -> None:
    """An output at s3://<bucket>/scores, a photograph, and small weights for the big ones."""
    put(bucket, {f"in/{i}.jpg": jpeg(i) for i in range(4)})
    folder = f"s3://{bucket}/in"
    rows = [scored(folder, i, 0.5 + i / 10) for i in range(4)]
    for row in rows:
        row |= {"category": "metal nut", "etag": stat(str(row["uri"])).etag}
    write(f"s3://{bucket}/scores", [*rows, scored(folder, 9, None)], "2026-11-23")
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(jpeg(0))

    def load_small(checkpoint: str) -> AdaCLIP:
        assert checkpoint == "all"
        return golden.load(golden_files, image_size=518)

    monkeypatch.setattr(pipeline.models, "load_adaclip", load_small)


@pytest.mark.usefixtures("output")
def test_every_python_snippet_runs(bucket: str) -> None:
    assert len(python_blocks("README.md")) == 3
    namespace = run_blocks("README.md", bucket)
    assert len(namespace["scores"]) == len(namespace["today"]) == 5
    assert namespace["worst"].score.dropna().is_monotonic_decreasing
    assert dict(namespace["failed"]) == {"truncated": 1}
    assert len(namespace["frame"]) == 4
    assert namespace["anomaly_map"].shape == (64, 96)
    assert Path("worst.png").stat().st_size > 0
    assert 0 <= namespace["out"].score.item() <= 1
