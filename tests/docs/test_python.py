"""The Python of README and docs/ runs as it stands, against an output on a real S3 server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import boto3
import numpy as np
import pandas as pd
import pytest

import pipeline.models
from pipeline.anomaly_map import Q15, quantize
from pipeline.calibration import images_needed
from pipeline.models import AdaCLIP
from pipeline.storage import read_object, stat
from tests import golden
from tests.bucket import jpeg, put
from tests.docs.snippets import ROOT, python_blocks, run_blocks
from tests.outputs import age, scored, write


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
def test_the_table_of_the_readme(bucket: str) -> None:
    assert len(python_blocks("README.md")) == 2
    found = run_blocks("README.md", bucket)
    assert len(found["frame"]) == 4
    assert found["worst"].score.is_monotonic_decreasing
    assert dict(found["failed"]) == {"truncated": 1}
    assert found["anomaly_map"].shape == (64, 96)
    assert Path("worst.png").stat().st_size > 0


@pytest.mark.usefixtures("output")
def test_the_model_alone(bucket: str) -> None:
    assert len(python_blocks("docs/getting-started.md")) == 1
    assert 0 <= run_blocks("docs/getting-started.md", bucket)["out"].score.item() <= 1


def test_the_grid_of_the_concepts_renders(bucket: str) -> None:
    found = run_blocks("docs/concepts.md", bucket)
    assert found["small"].shape == (518, 518)
    assert found["original"].shape == (3000, 4000)
    assert found["small"].max() > 0.9 > 0.1 > found["small"].min()


class Page(NamedTuple):
    """What the blocks of docs/results.md left behind."""

    found: dict[str, Any]
    bucket: str
    folder: Path


@pytest.fixture(scope="module")
def page(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The same output at s3://<bucket>/scores and in ./scores: two nights and good images.

    In ./scores the first night's files are of an older version.
    """
    bucket, here = f"test-{uuid4().hex[:12]}", tmp_path_factory.mktemp("page")
    boto3.client("s3").create_bucket(Bucket=bucket)
    put(bucket, {f"in/{i}.jpg": jpeg(i) for i in range(4)})
    folder = f"s3://{bucket}/in"
    rows = [scored(folder, i, 0.6 + i / 10) for i in range(4)]
    for row in rows:
        row |= {"category": "metal nut", "etag": stat(str(row["uri"])).etag}
    good = np.random.default_rng(0).random(200) * 0.4
    known = [scored(f"{folder}/good", 100 + i, float(s)) for i, s in enumerate(good)]
    for row in [*rows, *known]:
        row |= {"category": "metal nut", "map_max": row["score"], "anomalous_area": 0.0}
        direction = np.random.default_rng(len(str(row["uri"]))).random(8)
        row["embedding_q15"] = quantize(direction / np.linalg.norm(direction), Q15)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        for output in (f"s3://{bucket}/scores", "scores"):
            write(output, known, "2026-11-20")
            age(output)
            write(output, [*rows, scored(folder, 9, None)], "2026-11-23")
        return Page(run_blocks("docs/results.md", bucket), bucket, here)


@pytest.mark.slow
def test_results(page: Page) -> None:
    found, bucket, folder = page
    assert len(found["night"]) == 5
    assert len(found["week"]) == 4
    assert list(found["some"].columns) == ["uri", "score"]
    assert list(found["worst"].score) == [np.float32(x) for x in (0.9, 0.8, 0.7)]
    assert len(found["worst_of_all"]) == 20
    assert found["anomaly_map"].shape == (64, 96)
    assert found["small"].shape == (256, 256)
    assert (folder / "worst.png").stat().st_size > 0
    assert found["alike"].similarity.is_monotonic_decreasing
    assert len(found["alike"]) == 10
    assert len(found["compared"]) == 205
    assert len(found["masks"].images) == 4
    coco = json.loads(read_object(f"s3://{bucket}/exports/boxes.json")[0])
    assert len(coco["annotations"]) == len(found["masks"].boxes()) > 0
    assert found["thresholds"] == found["calibration"]
    assert len(found["alarms"]) == len(found["alarm_masks"].images) == 4
    assert found["newest"].score[:4].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert found["by_category"].filter(category="metal nut")["score"].item() == pytest.approx(0.9)


@pytest.mark.slow
def test_duckdb_and_polars_see_what_pandas_sees(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _, folder = page
    monkeypatch.chdir(folder)
    everything = found["results"].scores()
    assert len(everything) == 205
    assert found["local"].collect().height == found["remote"].collect().height == 205
    worst = found["worst_first"].head(20).collect()
    assert worst["score"].to_list() == everything.head(20).score.tolist()
    counted = found["duckdb"].sql(
        "SELECT count(*) FROM read_parquet('scores/scores/*/*.parquet', hive_partitioning = true)"
    )
    assert counted.fetchall() == [(205,)]
    ordered = everything.head(20).uri.tolist()
    assert found["newest"].uri.tolist() == ordered
    frame = found["remote"].select("uri", "score").collect().to_pandas()
    pd.testing.assert_frame_equal(
        frame.sort_values("uri", ignore_index=True),
        everything[["uri", "score"]].sort_values("uri", ignore_index=True),
        check_dtype=False,
    )


def test_the_numbers_of_needed_images_are_right() -> None:
    text = (ROOT / "docs/results.md").read_text()
    for rate in (0.05, 0.01, 0.001):
        needed = [f"{images_needed(rate, confidence):,}" for confidence in (0.95, 0.99)]
        assert f"| {100 * rate:g} % | {' | '.join(needed)} |" in text


def test_every_page_with_python_is_tested() -> None:
    pages = {
        path.name for path in (ROOT / "docs").glob("*.md") if python_blocks(f"docs/{path.name}")
    }
    # notebook.md shows the script that test_notebook runs; others have tests of their own.
    elsewhere = {"notebook.md", "queries.md", "migrating-lookout.md", "readers.md"}
    assert pages == {"concepts.md", "getting-started.md", "results.md"} | elsewhere
