"""A night over a prefix that holds all there may be, on a real Ray: a row for each.

Loose images, camera and X-ray files of 12 bits, a large frame in tiles, shards of every kind, and
broken ones of each.
"""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infra.docs.dicom_files import dicom
from infra.docs.format_case import tiff
from pipeline.benchmark.stand_in import StandInScorer
from pipeline.config import ScoreConfig
from pipeline.distributed.scoring import score_bucket
from pipeline.report.gallery import take_pictures
from pipeline.results import open_results
from pipeline.storage import write_object
from tests import golden
from tests.bucket import BROKEN, jpeg, put
from tests.image_files import encode
from tests.inputs.shards.making import hugging_face, tar_of, zip_of

pytestmark = [pytest.mark.usefixtures("local_ray"), pytest.mark.slow]


def test_every_member_has_a_row_is_scored_once_and_is_shown(
    bucket: str, golden_files: dict[str, str], tmp_path: Path
) -> None:
    source = f"s3://{bucket}/in"
    images = [(f"{i}.jpg", jpeg(i, (80, 60))) for i in range(12)]
    pixels = np.random.default_rng(0).integers(0, 4_096, (60, 80), np.uint16)
    twelve_bits = tiff(pixels)
    put(
        bucket,
        {
            **{f"in/loose/{name}": data for name, data in images[:2]},
            **{f"in/loose/{key}": data for key, (data, _) in BROKEN.items()},
            "in/bolt/a.tar": tar_of(
                [*images[2:5], ("cut.jpg", jpeg(1)[:300])], links=[("l", b"x")]
            ),
            "in/bolt/cut.tar": tar_of(images[5:8])[: 512 + 2048 + 700],
            "in/nut/b.zip": zip_of(images[8:10]),
            "in/nut/c.parquet": hugging_face(images[10:]),
            "in/nut/table.zip": zip_of([]),
            "in/x-ray/12.tiff": twelve_bits,
            "in/x-ray/cut.tiff": twelve_bits[:-200],
            "in/x-ray/1.dcm": dicom(pixels, 12),
            "in/x-ray/cut.dcm": dicom(pixels, 12)[:-200],
            "in/x-ray/series.tar": tar_of([("2.dcm", dicom(pixels, 12, frames=3))]),
            "in/frame/large.png": encode(Image.open(io.BytesIO(jpeg(0, (500, 300)))), "PNG"),
            "in/frame/cut.png": encode(Image.open(io.BytesIO(jpeg(0, (500, 300)))), "PNG")[:9000],
        },
    )
    config = ScoreConfig(
        input=(source,),
        output=f"s3://{bucket}/out",
        image_size=golden.IMAGE_SIZE,
        gray_range=(0, 4_095),
        tiles=3,
        max_error_rate=1.0,
        **golden_files,  # type: ignore[arg-type]
    )
    report = score_bucket(config, page=True)
    assert report.page_problem == ""
    results = open_results(config.output)
    rows = results.scores()
    assert Counter(rows.error.dropna()) == {
        "empty": 2,
        "truncated": 6,
        "not_an_image": 2,
    }
    scored = rows[rows.error.isna()]
    scored = scored.set_index(scored.uri.str.removeprefix(f"{source}/"))
    assert len(rows) == report.num_done == report.listed
    assert set(scored.index) == {
        *("loose/0.jpg", "loose/1.jpg"),
        *(f"bolt/a.tar#{i}.jpg" for i in (2, 3, 4)),
        "bolt/cut.tar#5.jpg",
        *(f"nut/b.zip#{i}.jpg" for i in (8, 9)),
        *(f"nut/c.parquet#{i}.jpg" for i in (10, 11)),
        *("x-ray/12.tiff", "x-ray/1.dcm", "x-ray/series.tar#2.dcm", "frame/large.png"),
    }
    assert scored.frames["x-ray/series.tar#2.dcm"] == 3
    grey = scored.score_logit[["x-ray/12.tiff", "x-ray/1.dcm", "x-ray/series.tar#2.dcm"]]
    assert grey.max() - grey.min() < 1e-4  # the same picture
    large = scored.loc["frame/large.png"]
    assert results.map(large).shape == (300, 500)
    assert results.overlay(large, caption=False).size == (500, 300)
    for name in ("bolt/a.tar#3.jpg", "nut/b.zip#9.jpg", "nut/c.parquet#11.jpg"):
        row = scored.loc[name]
        number = int(name.rpartition("#")[2].removesuffix(".jpg"))
        alone = f"{tmp_path}/{number}.jpg"
        write_object(alone, dict(images)[f"{number}.jpg"])
        assert row["size"] == len(dict(images)[f"{number}.jpg"])
        assert results.map(row).shape == (60, 80)
        overlay = results.overlay(row, opacity=0, caption=False)
        assert overlay.size == (80, 60)
        assert np.asarray(overlay).std() > 10
    beside = f"{source}/bolt/a.tar#2.jpg"
    shown = [row.to_dict() | {"nearest_reference": beside} for _, row in scored.iterrows()]
    for picture in take_pictures(config.output, shown, max_bytes=10**6):
        assert picture["image"]
        assert picture["map"]
        assert picture["reference"]
        assert picture["problem"] == ""
    again = score_bucket(config, StandInScorer, page=False)
    assert (again.pending, again.skipped) == (0, report.listed)


def test_a_member_scores_as_the_same_bytes_alone(
    golden_files: dict[str, str], tmp_path: Path
) -> None:
    images = [(f"{i}.jpg", jpeg(i, (80, 60))) for i in range(3)]
    for name, data in images:
        write_object(f"{tmp_path}/in/{name}", data)
    write_object(f"{tmp_path}/in/a.tar", tar_of(images))
    config = ScoreConfig(
        input=(f"{tmp_path}/in",),
        output=f"{tmp_path}/out",
        image_size=golden.IMAGE_SIZE,
        **golden_files,  # type: ignore[arg-type]
    )
    score_bucket(config, page=False)
    rows = open_results(config.output).scores(columns=["uri", "score_logit", "image_id"])
    rows["name"] = rows.uri.str.extract(r"(\d\.jpg)$")
    pairs = rows.groupby("name")
    assert (pairs.size() == 2).all()
    assert (pairs.image_id.nunique() == 2).all()
    assert (pairs.score_logit.max() - pairs.score_logit.min()).abs().max() < 1e-5
