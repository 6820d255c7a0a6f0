"""Images in tar shards beside the same as objects: the rows are told beside every rate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.benchmark import shards
from pipeline.benchmark.run import COLUMNS
from pipeline.benchmark.shards import make_images, measure_shards
from pipeline.benchmark.tables import table
from pipeline.config import BenchmarkConfig
from pipeline.storage import list_objects, read_object
from tests.inputs.shards.making import contents


@pytest.mark.parametrize("count", [1, 7])
def test_shards_hold_the_same_bytes_as_the_objects(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_IMAGES", 3)
    uris = make_images(f"file://{tmp_path}", count, 32)
    assert len(uris) == -(-count // 3)
    members = [each for uri in uris for each in contents(Path(uri.removeprefix("file://")))]
    objects = {
        info.uri.removeprefix(f"file://{tmp_path}/objects/"): read_object(info.uri)[0]
        for page in list_objects(f"{tmp_path}/objects")
        for info in page
    }
    assert dict(members) == objects
    assert len(members) == len(objects) == count


@pytest.mark.slow
def test_each_way_reads_every_image_and_tells_the_damaged_one(tmp_path: Path) -> None:
    config = BenchmarkConfig(
        part=("shards",), num_images=(1_000,), photo_size=(32,), num_cpus=2, address="local"
    )
    found = measure_shards(config)
    assert [each["read_as"] for each in found] == ["objects", "shards", "read_webdataset"]
    for each in found:
        assert (each["rows"], each["scored"], each["errors"]) == (1_000, 999, 1)
        assert each["images_per_s"] > 0
    assert json.dumps(found)
    assert table(found, COLUMNS["shards"])
