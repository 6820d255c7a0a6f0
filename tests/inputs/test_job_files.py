"""What jobs wrote below an input is no image, of whichever run; what lies beside it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.inputs.job_files import JobFiles
from pipeline.output.lock import OutputLock

OWN = "s3://b/own"
RUN = "runs/20261120T010203Z-0a1b2c"


def among(files: JobFiles, *uris: str) -> list[str]:
    found = files.among(pa.table({"uri": pa.array(uris, pa.string())}))
    return list(np.array(uris, dtype=object)[found])


def test_files_of_the_own_output_are_no_input_and_not_told() -> None:
    files = JobFiles("s3a://b/own/")
    written = [
        f"{OWN}/{name}" for name in ("lock.json", "scores/x.parquet", "plots/01-set-curves.png")
    ]
    images = ["s3://b/own.jpg", f"{OWN}/a.jpg", f"{OWN}/bolt/1.png", "s3://b/owner/scores/1.png"]
    # An output may be an input, too.
    images += [
        f"{OWN}/{name}" for name in ("plots/p.png", "sets/1.jpg", "runs/7/a.jpg", "scores/b.tif")
    ]
    assert among(files, *written, *images) == written
    assert not files.left_out


@pytest.mark.parametrize(
    "name",
    [
        "scores/scan_date=2026-11-20/part-0.parquet",
        "maps/scan_date=2026-11-20/part-0.parquet",
        f"{RUN}/report.html",
        f"{RUN}/manifest/part-00000.parquet",
    ],
)
def test_another_output_is_known_by_a_name_that_only_jobs_give(name: str) -> None:
    files = JobFiles(OWN)
    other = "s3://b/in/older"
    written = [f"{other}/{each}" for each in (name, "plots/01-bolt-bars.svg", "thresholds.json")]
    images = [f"{other}/bolt/1.png", f"{other}/2.jpg", "s3://b/in/maps/3.png"]
    assert among(files, *images, *written) == written
    assert among(files, f"{other}/nightly/2026-11-20-0a.json", "s3://b/in/4.json") == [
        f"{other}/nightly/2026-11-20-0a.json"
    ]
    assert files.left_out == {other: 4}


def test_folders_of_images_may_have_any_name() -> None:
    names = ["maps/1.png", "scores/scan_date=2026-11-20/1.png", "runs/7/1.png", "plots/a.csv"]
    assert among(JobFiles(OWN), *(f"s3://b/in/{name}" for name in names)) == []


def test_a_lock_tells_an_output_if_a_job_wrote_it(tmp_path: Path) -> None:
    output, theirs = f"file://{tmp_path}/out", f"file://{tmp_path}/theirs"
    with OutputLock(output, run_id="run"):
        pass
    Path(tmp_path, "theirs").mkdir()
    Path(tmp_path, "theirs/lock.json").write_text(json.dumps({"run_id": "7"}))
    files = JobFiles(OWN)
    written = [f"{output}/lock.json", f"{output}/plots/01-1-bars.png"]
    others = [
        f"{theirs}/lock.json",
        f"{theirs}/plots/01-1-bars.png",
        f"file://{tmp_path}/gone/lock.json",
    ]
    assert among(files, *written, *others) == written
    assert files.left_out == {output: 2}
