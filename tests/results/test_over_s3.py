"""From a notebook without torch and Ray, over S3: what works, and what goes over the wire."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.storage import write_object
from tests.bucket import jpeg, put
from tests.outputs import scored, write
from tests.results.s3_proxy import recorded
from tests.results.tables import column_bytes, write_night

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "open_clip", "ray"):
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Blocked())
"""
NOTEBOOK = """
from pipeline.results import open_results
from pipeline.storage import stat

results = open_results(sys.argv[1])
frame = results.scores(scan_date="2026-01-02")
assert list(frame.score) == [0.75, 0.5], frame
assert results.top(1).score.iloc[0] == 0.75
row = frame.iloc[0].copy()
assert results.map(row).shape == (64, 96)
row["etag"] = stat(row["uri"]).etag
assert results.overlay(row, caption=False).size == (96, 64)
"""
ONE_COLUMN = """
from pipeline.results import open_results

frame = open_results(sys.argv[1]).scores(scan_date="2026-01-02", columns=["score"], latest=False)
assert len(frame) == 20_000
"""


def run(code: str, output: str, **environment: str) -> None:
    command = [sys.executable, "-c", BLOCKED + code, output]
    subprocess.run(command, check=True, env=os.environ | environment)


@pytest.mark.slow
def test_everything_works_without_torch_and_ray(bucket: str) -> None:
    folder = f"s3://{bucket}/in"
    put(bucket, {f"in/{i}.jpg": jpeg(i) for i in range(2)})
    write(f"s3://{bucket}/out", [scored(folder, 5, 0.25)], "2026-01-01")
    rows = [scored(folder, 0, 0.5), scored(folder, 1, 0.75)]
    write(f"s3://{bucket}/out", rows, "2026-01-02")
    run(NOTEBOOK, f"s3://{bucket}/out")


@pytest.mark.slow
def test_only_one_column_of_one_date_goes_over_the_wire(
    bucket: str, s3: dict[str, str], tmp_path: Path
) -> None:
    for day in ("2026-01-01", "2026-01-02"):
        file = write_night(tmp_path, day)
        write_object(
            f"s3://{bucket}/out/{file.relative_to(tmp_path).as_posix()}", file.read_bytes()
        )
    with recorded(s3["AWS_ENDPOINT_URL"]) as (endpoint, requests):
        run(ONE_COLUMN, f"s3://{bucket}/out", AWS_ENDPOINT_URL=endpoint)
    objects = [each for each in requests if each.method == "GET" and ".parquet" in each.path]
    assert {"2026-01-02" in each.path for each in objects} == {True}
    assert not [each for each in requests if "2026-01-01" in each.path]
    footer = 70_000
    assert sum(each.sent for each in objects) <= (
        column_bytes(file, {"score"}, {0, 1, 2, 3}) + 2 * footer
    )
    assert sum(each.sent for each in objects) < file.stat().st_size / 4
