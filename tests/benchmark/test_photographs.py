"""Generated photographs: as many as asked for, that decode, in folders that name categories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.benchmark.photographs import DISTINCT, DRAWN, encoded, make_photographs, photograph
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


def test_photographs_larger_than_what_is_drawn_are_tiles() -> None:
    image = photograph(3, DRAWN + 100)
    assert image.shape == (DRAWN + 100, DRAWN + 100, 3)
    assert np.array_equal(image[:100, :100], image[DRAWN:, DRAWN:])
    assert decode(encoded(image)).size == (DRAWN + 100, DRAWN + 100)
