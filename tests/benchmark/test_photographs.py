"""Generated photographs: as many as asked for, that decode, in folders that name categories."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.benchmark.photographs import DISTINCT, encoded, make_photographs, photograph
from pipeline.images import decode
from pipeline.storage import list_objects, read_object
from pipeline.synthetic import CATEGORIES


@pytest.mark.parametrize("count", [3, 2 * DISTINCT, 1_005])
def test_a_folder_gets_that_many_photographs(tmp_path: Path, count: int) -> None:
    make_photographs(str(tmp_path / "images"), count, 64)
    files = sorted((tmp_path / "images").rglob("*.jpg"))
    assert len(files) == count
    assert len({file.read_bytes() for file in files}) == min(count, DISTINCT)
    assert {file.parent.name for file in files} <= set(CATEGORIES)
    assert decode(files[-1].read_bytes()).size == (64, 64)


def test_object_storage_gets_them_too(bucket: str) -> None:
    make_photographs(f"s3://{bucket}/images", 20, 64)
    objects = [info for page in list_objects(f"s3://{bucket}/images") for info in page]
    assert len(objects) == 20
    assert len({read_object(info.uri)[0] for info in objects}) == DISTINCT


def test_photographs_of_any_shape() -> None:
    image = photograph(3, 1_500, 700)
    assert image.shape == (700, 1_500, 3)
    assert image.std() > 10
    assert decode(encoded(image, "PNG")).size == (1_500, 700)
