"""The Python in docs/ runs as it stands, against an output on disk and on a real S3 server."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.calibration import images_needed
from pipeline.storage import read_object, stat
from tests.bucket import jpeg, put
from tests.outputs import scored, write
from tests.snippets import ROOT, python_blocks, run_blocks


@pytest.fixture
def outputs(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same output at s3://<bucket>/scores and in ./scores: two nights and good images."""
    put(bucket, {f"in/{i}.jpg": jpeg(i) for i in range(4)})
    folder = f"s3://{bucket}/in"
    rows = [scored(folder, i, 0.6 + i / 10) for i in range(4)]
    for row in rows:
        row |= {"category": "metal nut", "etag": stat(str(row["uri"])).etag}
    good = np.random.default_rng(0).random(200) * 0.4
    known = [scored(f"{folder}/good", 100 + i, float(s)) for i, s in enumerate(good)]
    for row in [*rows, *known]:
        row |= {"category": "metal nut", "map_max": row["score"], "anomalous_area": 0.0}
    monkeypatch.chdir(tmp_path)
    for output in (f"s3://{bucket}/scores", "scores"):
        write(output, known, "2026-11-20")
        write(output, [*rows, scored(folder, 9, None)], "2026-11-23")


@pytest.mark.usefixtures("outputs")
def test_results(bucket: str) -> None:
    found = run_blocks("docs/results.md", bucket)
    assert len(found["night"]) == 5
    assert len(found["week"]) == 4
    assert list(found["some"].columns) == ["uri", "score"]
    assert list(found["worst"].score) == [np.float32(x) for x in (0.9, 0.8, 0.7)]
    assert len(found["worst_of_all"]) == 20
    assert found["anomaly_map"].shape == (64, 96)
    assert found["small"].shape == (256, 256)
    assert Path("worst.png").stat().st_size > 0
    assert len(found["masks"].images) == 4
    coco = json.loads(read_object(f"s3://{bucket}/exports/boxes.json")[0])
    assert len(coco["annotations"]) == len(found["masks"].boxes()) > 0
    assert found["thresholds"] == found["calibration"]
    assert len(found["alarms"]) == len(found["alarm_masks"].images) == 4
    assert found["newest"].score[:4].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert found["by_category"].filter(category="metal nut")["score"].item() == pytest.approx(0.9)


@pytest.mark.usefixtures("outputs")
def test_duckdb_and_polars_see_what_pandas_sees(bucket: str) -> None:
    found = run_blocks("docs/results.md", bucket)
    everything = found["results"].scores()
    assert len(everything) == 205
    assert found["local"].collect().height == found["remote"].collect().height == 205
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
    assert pages == {"results.md"}
