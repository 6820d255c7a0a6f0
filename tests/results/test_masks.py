"""Regions of an output: which images, in which pixels, and as COCO JSON that pycocotools reads."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pipeline.anomaly_map import Q8, quantize
from pipeline.calibration import Calibration, CalibrationError, Limit
from pipeline.results import Results, open_results
from tests.outputs import scored, write

SIDE = 24
SIZE = (300, 400)  # height, width


def row(
    i: int, score: float | None, logits: np.ndarray, category: str = "nut"
) -> dict[str, object]:
    """A scored image with a logit grid of its own."""
    made = scored("s3://b/in", i, score) | {"category": category}
    if score is not None:
        made |= {"width": SIZE[1], "height": SIZE[0], "logit_grid_q8": quantize(logits.ravel(), Q8)}
        made |= {"grid_height": SIDE, "grid_width": SIDE}
        made["map_max"] = float(1 / (1 + np.exp(-quantize(logits, Q8).max() / Q8)))
    return made


def hill(x: float, y: float, radius: float, hole: float = 0) -> np.ndarray:
    """Logits that cross 0 on a circle (and on a smaller one), in places of the grid."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    away = np.hypot(columns - x, rows - y)
    outside = radius - away
    return np.minimum(outside, away - hole) if hole else outside


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two discs, a ring, an image at rest, one that failed, and another category."""
    output = str(tmp_path_factory.mktemp("masks"))
    discs = np.maximum(hill(6, 6, 4), hill(17, 15, 5))
    rows = [
        row(0, 0.9, discs),
        row(1, 0.8, hill(11, 11, 9, hole=4)),
        row(2, 0.1, np.full((SIDE, SIDE), -6.0)),
        row(3, None, discs),
        row(4, 0.7, hill(0, 0, 6), category="bolt"),
    ]
    write(output, rows, "2026-01-01")
    return open_results(output)


def calibration(model: str = "m", **limits: float) -> Calibration:
    made = {
        name: {"map_max": Limit(value=value, num_images=9, num_above=0, bound=0.3)}
        for name, value in limits.items()
    }
    return Calibration(model=model, false_alarm_rate=0.3, confidence=0.9, limits=made)


def test_masks_printed_every_pixel_and_point_of_their_regions(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = results.to_masks(0.5)
    assert repr(masks) == "Masks(3 images, 4 regions, 2 categories)"
    ring = next(image for image in masks.images if image.uri.endswith("/1.jpg"))
    told = "ImageMasks('s3://b/in/1.jpg', 'nut', score=0.800, 1 region above 0.500)"
    assert repr(ring) == told
    (region,) = ring.regions
    x0, y0, x1, y1 = region.box
    assert repr(region) == (
        f"Region(box=({x0}, {y0}, {x1}, {y1}), area={region.area}, peak={region.peak:.3f}, "
        "1 polygon)"
    )
    (polygon,) = region.polygons
    assert repr(polygon) == f"Polygon({len(polygon.outer):,} points, 1 hole)"
    monkeypatch.setenv("SOME_API_KEY", "canary0123456789")
    secret = replace(ring, uri=f"s3://b/{'x' * 900}/canary0123456789/1.jpg")
    assert repr(secret).startswith("ImageMasks('…xxx")
    assert "/***/1.jpg', 'nut'" in repr(secret)
    assert len(repr(secret)) < 160


def test_regions_lie_where_the_map_is_above(results: Results) -> None:
    frame = results.scores()
    (masks,) = results.to_masks(0.5, frame.iloc[0]).images
    anomaly_map = results.map(frame.iloc[0])
    painted = np.zeros(SIZE, dtype=bool)
    for region in masks.regions:
        x0, y0, x1, y1 = region.box
        painted[y0:y1, x0:x1] |= region.mask
    np.testing.assert_array_equal(painted, anomaly_map > 0.5)
    assert (masks.width, masks.height) == (400, 300)
    assert [region.area for region in masks.regions] == sorted(
        (region.area for region in masks.regions), reverse=True
    )


def test_without_rows_it_is_all_images_above(results: Results) -> None:
    masks = results.to_masks(0.5)
    assert [image.uri[-5:] for image in masks.images] == ["0.jpg", "1.jpg", "4.jpg"]
    assert [len(image.regions) for image in masks.images] == [2, 1, 1]
    # Given rows all count, also those without a region; what has no map does not.
    assert len(results.to_masks(0.5, results.scores()).images) == 4


def test_each_category_has_its_threshold(results: Results) -> None:
    masks = results.to_masks({"nut": 0.9, "bolt": 0.5})
    assert {image.category: image.threshold for image in masks.images} == {"nut": 0.9, "bolt": 0.5}
    assert {image.category for image in results.to_masks({"bolt": 0.5}).images} == {"bolt"}
    with pytest.raises(CalibrationError, match="no threshold for the category 'nut'"):
        results.to_masks({"bolt": 0.5}, results.scores())
    for bad in (1.0, -0.1, {}, {"nut": 2.0}):
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            results.to_masks(bad)


def test_calibrated_thresholds_are_those_of_the_map_and_of_their_model(results: Results) -> None:
    masks = results.to_masks(calibration(nut=0.9, bolt=0.5))
    assert masks.boxes().equals(results.to_masks({"nut": 0.9, "bolt": 0.5}).boxes())
    for rows in (None, results.scores()):
        with pytest.raises(CalibrationError, match="of the model other, the scores of m"):
            results.to_masks(calibration("other", nut=0.9, bolt=0.5), rows)


def test_small_regions_can_be_left_out(results: Results) -> None:
    boxes = results.to_masks(0.5).boxes()
    assert len(boxes) == 4
    least = boxes.area.sort_values().iloc[2]
    kept = results.to_masks(0.5, min_area=least).boxes()
    assert sorted(kept.area) == sorted(boxes.area)[2:]


def test_boxes_are_a_table(results: Results) -> None:
    boxes = results.to_masks(0.5).boxes()
    first = boxes.iloc[0]
    region = results.to_masks(0.5).images[0].regions[0]
    assert (first.x0, first.y0, first.x1, first.y1) == region.box
    assert (first.area, first.peak) == (region.area, region.peak)
    assert (first.uri, first.category) == ("s3://b/in/0.jpg", "nut")


def test_boxes_of_a_night_without_regions_are_the_same_kind_of_table(
    results: Results, tmp_path: Path
) -> None:
    """Its columns had no type, and no reader took it beside the files of other nights."""
    for name, threshold in (("1", 0.9999), ("2", 0.5)):
        results.to_masks(threshold).boxes().to_parquet(tmp_path / f"{name}.parquet")
    nights = pd.read_parquet(tmp_path)
    boxes = results.to_masks(0.5).boxes()
    assert len(nights) == len(boxes) == 4
    pd.testing.assert_series_equal(nights.dtypes, boxes.dtypes)
    pd.testing.assert_series_equal(results.to_masks(0.9999).boxes().dtypes, boxes.dtypes)


def test_coco_json_is_what_pycocotools_reads(results: Results, tmp_path: Path) -> None:
    masks = results.to_masks(0.5, results.scores())
    masks.write_coco(f"{tmp_path}/boxes.json")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(f"{tmp_path}/boxes.json")
    assert len(coco.getImgIds()) == len(masks.images) == 4
    assert {each["name"] for each in coco.loadCats(coco.getCatIds())} == {"nut", "bolt"}
    annotations = coco.loadAnns(coco.getAnnIds())
    assert len(annotations) == 4
    kinds = set()
    for annotation in annotations:
        (image,) = coco.loadImgs(annotation["image_id"])
        (found,) = (each for each in masks.images if each.uri == image["file_name"])
        (row,) = (r for _, r in results.scores().iterrows() if r.uri == found.uri)
        (region,) = (r for r in found.regions if r.peak == annotation["score"])
        expected = np.zeros(SIZE, dtype=bool)
        x0, y0, x1, y1 = region.box
        expected[y0:y1, x0:x1] = region.mask
        assert not (expected & ~(results.map(row) > 0.5)).any()
        drawn = coco.annToMask(annotation).astype(bool)
        kinds.add(type(annotation["segmentation"]))
        if isinstance(annotation["segmentation"], dict):
            np.testing.assert_array_equal(drawn, expected)
        else:  # pycocotools rounds outlines to a fifth of a pixel
            assert np.count_nonzero(drawn != expected) <= 0.01 * annotation["area"] + 5
        encoded = coco.annToRLE(annotation)
        assert int(coco_mask.area(encoded)) == pytest.approx(annotation["area"], rel=0.01)
        np.testing.assert_allclose(coco_mask.toBbox(encoded), annotation["bbox"], atol=1)
    assert kinds == {list, dict}


def test_coco_categories_have_the_same_numbers_in_every_export(results: Results) -> None:
    """They were numbered by the images exported: a night of nuts had another number for nuts."""
    exports = [results.to_masks(0.5, results.scores(category=name)) for name in ("nut", "bolt")]
    for masks in (*exports, results.to_masks(0.5), pickle.loads(pickle.dumps(exports[0]))):
        coco = masks.coco()
        assert {each["name"]: each["id"] for each in coco["categories"]} == {"bolt": 1, "nut": 2}
        names = {image.category for image in masks.images}
        assert {each["category_id"] for each in coco["annotations"]} == {
            {"bolt": 1, "nut": 2}[name] for name in names
        }


def test_coco_categories_can_be_given(results: Results, tmp_path: Path) -> None:
    given = {"washer": 3, "nut": 9, "bolt": 7}
    results.to_masks({"bolt": 0.5}).write_coco(f"{tmp_path}/boxes.json", categories=given)
    coco = json.loads((tmp_path / "boxes.json").read_text())
    assert {each["name"]: each["id"] for each in coco["categories"]} == given
    assert {each["category_id"] for each in coco["annotations"]} == {7}
    for bad in ({"bolt": 1}, {}):
        with pytest.raises(ValueError, match=r"categories gives .*'nut' no number"):
            results.to_masks(0.5).coco(categories=bad)
    with pytest.raises(ValueError, match="the same number"):
        results.to_masks(0.5).coco(categories={"bolt": 1, "nut": 1})


def test_coco_json_holds_hostile_names_as_they_are(tmp_path: Path) -> None:
    hostile = '<script>alert("1")</script>\n$x$'
    made = row(0, 0.9, hill(6, 6, 4), category=hostile) | {"uri": f"s3://b/{hostile}.jpg"}
    write(str(tmp_path / "out"), [made], "2026-01-01")
    masks = open_results(str(tmp_path / "out")).to_masks(0.5)
    masks.write_coco(str(tmp_path / "boxes.json"))
    coco = json.loads((tmp_path / "boxes.json").read_text())
    assert coco["categories"][0]["name"] == hostile
    assert coco["images"][0]["file_name"] == f"s3://b/{hostile}.jpg"


def test_calibrated_thresholds_are_those_of_their_references(tmp_path: Path) -> None:
    """Nuts were scored without references, then with some, then with others."""
    output = str(tmp_path)
    for day, references in enumerate(({}, {"nut": "1"}, {"nut": "2"}), 1):
        rows = [row(0, day / 4, hill(6, 6, 4)), row(4, day / 4, hill(0, 0, 6), "bolt")]
        write(output, rows, f"2026-01-0{day}", references=references)
    results = open_results(output)
    limits = replace(calibration(nut=0.5, bolt=0.5), references={"nut": "1"})
    images = results.to_masks(limits).images
    assert [(each.category, each.score) for each in images] == [("bolt", 0.75), ("nut", 0.5)]
    with pytest.raises(CalibrationError, match="this score is with the references 2"):
        results.to_masks(limits, results.scores(scan_date="2026-01-03"))
    gone = replace(calibration(nut=0.5), references={"nut": "3"})
    with pytest.raises(CalibrationError, match=r"the scores of m, m\+refs-1, m\+refs-2; calibrate"):
        results.to_masks(gone)
