"""Pictures: small, in proportion, and honest about what is missing."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.anomaly_map import render
from pipeline.inputs.shards import lookup
from pipeline.report.gallery import MAP_SIDE, SIDE, SMALL_SIDE, take_pictures
from pipeline.report.page_data import gather
from pipeline.storage import stat
from tests import outputs
from tests.bucket import jpeg

NUM_IMAGES = 6
SIZE = (960, 640)


def opened(encoded: str | None) -> Image.Image:
    assert encoded is not None
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


@pytest.fixture
def output(tmp_path: Path) -> str:
    """An output of six images that lie beside it."""
    rows = []
    for i in range(NUM_IMAGES):
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(jpeg(i, SIZE))
        row = outputs.scored(f"file://{tmp_path}", i, 0.9 - i / 10)
        rows.append(row | {"width": SIZE[0], "height": SIZE[1], "etag": stat(row["uri"]).etag})
    outputs.write(f"{tmp_path}/out", rows, "2026-01-01")
    return f"file://{tmp_path}/out"


@pytest.fixture
def rows(output: str) -> list[dict[str, Any]]:
    """Of the gallery, bolts and nuts by turns."""
    return gather(output)["gallery"]


def test_every_picture_is_its_rows_own(output: str, rows: list[dict[str, Any]]) -> None:
    for row, picture in zip(rows, take_pictures(output, rows, max_bytes=10**6), strict=True):
        i = int(row["image_id"], 16)
        image = opened(picture["image"])
        assert image.size == (SIDE, 256)
        original = Image.open(io.BytesIO(jpeg(i, SIZE))).resize(image.size)
        difference = np.abs(np.asarray(image, np.float32) - np.asarray(original, np.float32))
        assert difference.mean() < 3
        grey = np.asarray(opened(picture["map"]).convert("L"), np.float32) / 255
        assert grey.shape == (round(MAP_SIDE * 2 / 3), MAP_SIDE)
        expected = render(outputs.grid(i), grey.shape)
        assert np.abs(grey - expected).mean() < 0.02
        assert picture["problem"] == ""


def test_pictures_keep_to_their_bytes(output: str, rows: list[dict[str, Any]]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (640, 960, 3), dtype=np.uint8)
    path = Path(rows[0]["uri"].removeprefix("file://"))
    Image.fromarray(noise).save(path, quality=95)
    rows[0]["etag"] = stat(rows[0]["uri"]).etag
    for total in (600_000, 60_000, 18_000):
        pictures = take_pictures(output, rows, max_bytes=total)
        sizes = [len(base64.b64decode(p["image"] + p["map"])) for p in pictures]
        assert max(sizes) <= total // NUM_IMAGES
    assert opened(pictures[1]["image"]).width == SMALL_SIDE


def test_what_is_gone_or_replaced_or_has_no_map_says_so(
    output: str, rows: list[dict[str, Any]]
) -> None:
    gone, replaced, mapless, broken, whole = rows[:5]
    Path(gone["uri"].removeprefix("file://")).unlink()
    Path(replaced["uri"].removeprefix("file://")).write_bytes(jpeg(77, SIZE))
    mapless["map_file"] = None
    Path(broken["uri"].removeprefix("file://")).write_bytes(b"no image any more")
    broken["etag"] = stat(broken["uri"]).etag
    found = take_pictures(output, [gone, replaced, mapless, broken, whole], max_bytes=10**6)
    assert [each["image"] is None for each in found] == [True, True, False, True, False]
    assert [each["map"] is None for each in found] == [False, False, True, False, False]
    assert "not_found" in found[0]["problem"]
    assert found[1]["problem"] == "the image was replaced after it was scored"
    assert found[2]["problem"] == "scored without a map"
    assert "decoded" in found[3]["problem"]
    assert found[4]["problem"] == ""


def test_maps_that_cannot_be_read_leave_the_images(output: str, rows: list[dict[str, Any]]) -> None:
    for shard in Path(output.removeprefix("file://")).glob("maps/**/*.parquet"):
        shard.write_bytes(b"not Parquet")
    for picture in take_pictures(output, rows, max_bytes=10**6):
        assert picture["image"]
        assert picture["problem"].startswith("no map: ")


def test_no_rows_no_pictures(output: str) -> None:
    assert take_pictures(output, [], max_bytes=10**6) == []


def test_the_nearest_reference_comes_with_each_row_and_is_read_once(
    output: str, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.jpg").write_bytes(jpeg(100, (300, 600)))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    for row, name in zip(rows, ("good", "good", "gone", "broken"), strict=False):
        row["nearest_reference"] = f"file://{tmp_path}/{name}.jpg"
    read: list[str] = []
    original = lookup.read_object

    def watched(uri: str) -> tuple[bytes, str]:
        read.append(uri)
        return original(uri)

    monkeypatch.setattr(lookup, "read_object", watched)
    pictures = take_pictures(output, rows, max_bytes=10**6)
    assert read.count(f"file://{tmp_path}/good.jpg") == 1
    assert [each["reference"] is not None for each in pictures] == [True, True, *[False] * 4]
    assert opened(pictures[0]["reference"]).size == (SMALL_SIDE // 2, SMALL_SIDE)
    assert all(each["image"] and each["problem"] == "" for each in pictures), "no error of the row"


def test_images_share_their_bytes_with_the_references(
    output: str, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (640, 960, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "good.jpg", quality=95)
    for row in rows:
        row["nearest_reference"] = f"file://{tmp_path}/good.jpg"
    for total in (600_000, 90_000):
        for each in take_pictures(output, rows, max_bytes=total):
            sizes = [len(base64.b64decode(each[name])) for name in ("image", "map", "reference")]
            assert sum(sizes) <= total // NUM_IMAGES
