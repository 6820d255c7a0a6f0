"""Nights over DICOM files of several frames, on a real Ray: a row, a map and a picture for each."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from infra.docs.dicom_files import PATIENT, dicom
from pipeline.benchmark.stand_in import StandInScorer
from pipeline.config import ScoreConfig
from pipeline.distributed.scoring import score_bucket
from pipeline.images import decode
from pipeline.report.gallery import take_pictures
from pipeline.results import open_results
from tests import golden
from tests.bucket import BROKEN, jpeg, put

pytestmark = [pytest.mark.usefixtures("local_ray"), pytest.mark.slow]

WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def picture(seed: int) -> np.ndarray:
    """Blobs of 12 bits [60, 80], each seed its own."""
    rough = np.random.default_rng(seed).integers(0, 256, (4, 5), np.uint8)
    smooth = np.asarray(Image.fromarray(rough).resize((80, 60), Image.Resampling.BICUBIC))
    return smooth.astype(np.uint16) * 16


def series(*seeds: int, coding: str = "", **tags: object) -> bytes:
    first, *more = map(picture, seeds)
    return dicom(first, 12, coding=coding, more=more, **WINDOW | tags)


@pytest.fixture
def config(bucket: str, golden_files: dict[str, str]) -> ScoreConfig:
    return ScoreConfig(
        input=(f"s3://{bucket}/in",),
        output=f"s3://{bucket}/out",
        dicom_frames="all",
        image_size=golden.IMAGE_SIZE,
        max_error_rate=1.0,
        **golden_files,  # type: ignore[arg-type]
    )


def test_every_frame_has_a_row_is_scored_once_and_is_shown(
    bucket: str, config: ScoreConfig
) -> None:
    put(
        bucket,
        {
            **{f"in/loose/{key}": data for key, (data, _) in BROKEN.items()},
            "in/loose/1.jpg": jpeg(1),
            "in/ct/native.dcm": series(0, 1, 2, 3),
            "in/ct/rle.dcm": series(0, 1, 2, coding="rle"),
            "in/ct/IM0001": series(0, 1, 2, coding="jpeg2k"),
            "in/ct/single.dcm": series(2),
            "in/ct/cut.dcm": series(0, 1, 2)[:-2000],
            "in/ct/damaged.dcm": series(0, 1, 2, coding="jpegls").replace(b"\xff\xd8", b"\0\0"),
            "in/ct/no.dcm": dicom(None, 0, NumberOfFrames=9),
        },
    )
    report = score_bucket(config, page=True)
    assert report.page_problem == ""
    results = open_results(config.output)
    rows = results.scores()
    rows = rows.set_index(rows.uri.str.removeprefix(f"s3://{bucket}/in/"))
    assert len(rows) == report.num_done == report.listed
    scans = rows[rows.index.str.startswith("ct/")]
    assert dict(scans.error[scans.error.notna()]) == {
        "ct/cut.dcm#3": "truncated",
        **{f"ct/damaged.dcm#{i}": "truncated" for i in (1, 2, 3)},
        "ct/no.dcm": "not_an_image",
    }
    scored = scans[scans.error.isna()]
    assert set(scored.index) == {
        *(f"ct/native.dcm#{i}" for i in (1, 2, 3, 4)),
        *(f"ct/{name}#{i}" for name in ("rle.dcm", "IM0001") for i in (1, 2, 3)),
        *("ct/cut.dcm#1", "ct/cut.dcm#2", "ct/single.dcm"),
    }
    assert set(scored.frames) == {1}
    third = scored.score_logit[["ct/native.dcm#3", "ct/rle.dcm#3", "ct/IM0001#3", "ct/single.dcm"]]
    assert third.max() - third.min() < 1e-4  # the same picture
    assert scored.score_logit[[f"ct/native.dcm#{i}" for i in (1, 2, 3, 4)]].nunique() == 4
    for name in ("ct/native.dcm#3", "ct/rle.dcm#3", "ct/IM0001#3"):
        row = scored.loc[name]
        assert results.map(row).shape == (60, 80)
        shown = np.asarray(results.overlay(row, opacity=0, caption=False), int)
        alone = np.asarray(decode(series(2)), int)
        assert np.median(np.abs(shown - alone)) == 0  # all but the box
    beside = f"s3://{bucket}/in/ct/IM0001#2"
    asked = [row.to_dict() | {"nearest_reference": beside} for _, row in scored.iterrows()]
    for taken in take_pictures(config.output, asked, max_bytes=10**6):
        assert taken["problem"] == ""
        assert taken["image"]
        assert taken["reference"]
    again = score_bucket(config, StandInScorer, page=False)
    assert (again.pending, again.skipped) == (0, report.listed)


def test_a_new_version_and_a_changed_flag_score_what_is_new_only(
    bucket: str, config: ScoreConfig
) -> None:
    put(bucket, {"in/ct/a.dcm": series(0, 1), "in/ct/b.dcm": series(2), "in/c.jpg": jpeg(1)})
    first = replace(config, dicom_frames="first")
    assert score_bucket(first, StandInScorer, page=False).num_done == 3
    report = score_bucket(config, StandInScorer, page=False)
    assert (report.num_done, report.skipped) == (2, 2)
    rows = open_results(config.output).scores()
    assert rows.model.nunique() == 1
    assert dict(zip(rows.uri.str.rpartition("/")[2], rows.frames, strict=True)) == {
        "a.dcm": 2,
        "a.dcm#1": 1,
        "a.dcm#2": 1,
        "b.dcm": 1,
        "c.jpg": 1,
    }
    put(bucket, {"in/ct/a.dcm": series(0, 3, 4)})
    assert score_bucket(config, StandInScorer, page=False).num_done == 3
    newest = open_results(config.output).scores()
    assert Counter(newest.uri.str.rpartition("/")[2])["a.dcm#2"] == 1
    assert len(newest) == 6


def test_rows_and_files_of_frames_name_no_patient(bucket: str, config: ScoreConfig) -> None:
    put(bucket, {"in/ct/a.dcm": series(0, 1, PatientComments=PATIENT)})
    score_bucket(config, StandInScorer, page=True)
    rows = open_results(config.output).scores()
    assert len(rows) == 2
    assert "Quincey" not in rows.to_csv()
