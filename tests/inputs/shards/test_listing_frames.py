"""Frames of DICOM files below an input: rows of their own with --dicom-frames all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.docs.dicom_files import dicom
from pipeline.config import ScoreConfig
from pipeline.identity import ModelIdentity
from pipeline.inputs.manifest import Manifest, pending_images
from pipeline.inputs.shards import file as shard_file
from pipeline.output.layout import SHARD_INDEX
from pipeline.output.ledger import IdSet
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, read_range, stat
from tests.bucket import put
from tests.inputs.building import IDENTITY, Rows, build, names, write

from .making import tar_of

PIXELS = np.arange(600, dtype=np.uint16).reshape(20, 30)
ONE, THREE = dicom(PIXELS, 12), dicom(PIXELS, 12, frames=3)


@pytest.fixture
def every(config: ScoreConfig, images: Path) -> ScoreConfig:
    """All frames of a folder with a series of three, a single picture, and photographs."""
    write(images / "ct/series.dcm", THREE)
    write(images / "ct/single.dcm", ONE)
    return replace(config, dicom_frames="all")


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the objects of which ranges are read to list them."""
    read: list[str] = []

    def recorded(uri: str, etag: str, start: int, length: int) -> bytes:
        read.append(uri.rpartition("/")[2])
        return read_range(uri, etag, start, length)

    monkeypatch.setattr(shard_file, "read_range", recorded)
    return read


def scans(rows: Rows) -> Rows:
    return sorted((row for row in rows if "/ct/" in row["uri"]), key=lambda row: row["uri"])


def test_every_frame_of_several_has_a_row_and_all_else_stays(every: ScoreConfig) -> None:
    _, before = build(replace(every, dicom_frames="first"))
    assert names(scans(before)) == ["series.dcm", "single.dcm"]
    manifest, rows = build(every)
    assert names(scans(rows)) == ["series.dcm#1", "series.dcm#2", "series.dcm#3", "single.dcm"]
    kept = {row["image_id"]: row for row in rows}
    assert [kept[row["image_id"]] == row for row in before if "series" not in row["uri"]] == [
        True
    ] * 5
    uri = scans(rows)[0]["uri"].removesuffix("#1")
    third = scans(rows)[2]
    start = THREE.index(PIXELS.tobytes()) + 2 * PIXELS.nbytes
    assert third["etag"] == f"{stat(uri).etag}#frame3@{start}+{PIXELS.nbytes}"
    assert (third["size"], third["category"]) == (PIXELS.nbytes, "ct")
    assert third["last_modified"] == stat(uri).last_modified
    assert manifest.listed == len(rows) == 8
    assert build(replace(every, dicom_frames="first"))[1] == before


def test_what_was_scored_is_done_whatever_the_flag(every: ScoreConfig) -> None:
    done = IdSet()
    build(replace(every, dicom_frames="first"), done)
    manifest, rows = build(every, done)
    assert names(rows) == ["series.dcm#1", "series.dcm#2", "series.dcm#3"]
    assert manifest.skipped == 5
    assert build(every, done)[1] == []


def test_a_replaced_file_has_new_rows(every: ScoreConfig, images: Path) -> None:
    done = IdSet()
    build(every, done)
    write(images / "ct/series.dcm", dicom(PIXELS, 12, frames=2, PatientComments="again"))
    write(images / "ct/single.dcm", dicom(PIXELS, 12, frames=2))
    assert names(build(every, done)[1]) == [
        *("series.dcm#1", "series.dcm#2"),
        *("single.dcm#1", "single.dcm#2"),
    ]


@pytest.mark.parametrize("name", ["a.DCM", "a.dicom", "a.dic", "a.IMA", "IM0001", "1.2.840.7"])
def test_names_that_scanners_give_are_looked_at(
    name: str, every: ScoreConfig, images: Path, looked_at: list[str]
) -> None:
    write(images / "ct" / name, THREE)
    write(images / "ct/a.img.png", THREE)
    _, rows = build(every)
    assert set(looked_at) == {name, "series.dcm", "single.dcm"}
    assert {f"{name}#1", f"{name}#2", f"{name}#3", "a.img.png"} < set(names(rows))


def test_headers_are_read_once(every: ScoreConfig, images: Path, looked_at: list[str]) -> None:
    write(images / "ct/notes", b"no picture at all")
    _, first = build(every)
    assert sorted(looked_at) == ["notes", "series.dcm", "single.dcm"]
    looked_at.clear()
    assert scans(build(every)[1]) == scans(first)
    assert looked_at == []
    assert len(list(Path(every.output, SHARD_INDEX).iterdir())) == 2
    write(images / "ct/new.dcm", ONE)
    build(every)
    assert looked_at == ["new.dcm"]
    looked_at.clear()
    build(every)
    assert looked_at == []


def test_the_index_is_made_anew_where_it_is_damaged(every: ScoreConfig) -> None:
    _, rows = build(every)
    for damage in (b"half", tar_of([])):
        for path in Path(every.output, SHARD_INDEX).iterdir():
            path.write_bytes(damage)
        assert build(every)[1] == rows


def test_who_only_looks_writes_no_index(every: ScoreConfig) -> None:
    list(pending_images(every, IDENTITY, IdSet(), Manifest("")))
    assert not Path(every.output).exists()


def test_a_run_that_stops_early_keeps_what_it_has_seen(
    every: ScoreConfig, looked_at: list[str]
) -> None:
    build(replace(every, limit=1))
    looked_at.clear()
    assert len(build(every)[1]) == 8
    assert looked_at == []


def test_globs_see_files_and_frames(every: ScoreConfig, looked_at: list[str]) -> None:
    assert len(build(replace(every, include=("*.dcm",)))[1]) == 4
    _, rows = build(replace(every, include=("*.dcm",), exclude=("*#1",)))
    assert names(rows) == ["series.dcm#2", "series.dcm#3", "single.dcm"]
    _, rows = build(replace(every, include=("*.dcm#3",)))
    assert names(rows) == ["series.dcm#3"]
    looked_at.clear()
    build(replace(every, exclude=("*.dcm",)))
    assert looked_at == []


def test_lists_name_files_and_frames(bucket: str, config: ScoreConfig, tmp_path: Path) -> None:
    put(bucket, {"in/a.dcm": THREE, "in/b.dcm": THREE, "in/c.dcm": ONE})
    lines = [f"s3://{bucket}/in/{name}" for name in ("a.dcm", "b.dcm#2", "c.dcm", "c.dcm#1")]
    table = write(tmp_path / "list.csv", "\n".join(["uri", *lines]).encode())
    config = replace(config, input=(str(table),), category="scan")
    _, first = build(config)
    assert names(first) == ["a.dcm", "b.dcm#2", "c.dcm", "c.dcm#1"]
    assert {row["uri"].rpartition("/")[2]: row["error"] for row in first} == {
        "a.dcm": None,
        "b.dcm#2": None,
        "c.dcm": None,
        "c.dcm#1": "not_found",  # of one frame: it is called by the file's own name
    }
    _, every = build(replace(config, dicom_frames="all"))
    assert names(every) == ["a.dcm#1", "a.dcm#2", "a.dcm#3", "b.dcm#2", "c.dcm", "c.dcm#1"]
    ids = {row["uri"]: row["image_id"] for row in every}
    assert [ids[row["uri"]] == row["image_id"] for row in first if "a.dcm" not in row["uri"]] == [
        True
    ] * 3
    _, folder = build(replace(config, dicom_frames="all", input=(f"s3://{bucket}/in",)))
    assert ids[f"s3://{bucket}/in/b.dcm#2"] in {row["image_id"] for row in folder}


def test_members_that_a_list_names_are_not_looked_into(
    bucket: str, config: ScoreConfig, tmp_path: Path
) -> None:
    nested = [("x/IM0001", THREE), ("b.dcm", THREE), ("c.tar", tar_of([]))]
    put(bucket, {"in/IM0001": THREE, "in/a.tar": tar_of(nested)})
    named = ["IM0001#2", *(f"a.tar#{name}" for name, _ in nested)]
    lines = [f"s3://{bucket}/in/{name}" for name in named]
    table = write(tmp_path / "list.csv", "\n".join(["uri", *lines]).encode())
    _, rows = build(replace(config, input=(str(table),), dicom_frames="all"))
    assert [row["uri"] for row in rows] == lines
    assert {row["error"] for row in rows} == {None}


def test_files_of_shards_stay_one_picture(every: ScoreConfig, images: Path) -> None:
    write(images / "ct/a.tar", tar_of([("series.dcm", THREE)]))
    _, rows = build(replace(every, include=("*.tar",)))
    assert names(rows) == ["a.tar#series.dcm"]


def test_a_file_that_can_not_be_looked_at_is_a_row_and_tried_again(
    every: ScoreConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(uri: str, etag: str, start: int, length: int) -> bytes:
        raise StorageError(ErrorCode.FETCH_FAILED, "no answer")

    monkeypatch.setattr(shard_file, "read_range", fail)
    done = IdSet()
    rows = scans(build(every)[1])
    assert [(row["error"], row["error_message"]) for row in rows] == [
        ("fetch_failed", "no answer")
    ] * 2
    monkeypatch.undo()
    assert len(scans(build(every, done)[1])) == 4


def test_a_file_that_is_cut_has_a_row_beside_its_frames(every: ScoreConfig, images: Path) -> None:
    write(images / "ct/series.dcm", THREE[:-10])
    rows = {row["uri"].rpartition("/")[2]: row for row in scans(build(every)[1])}
    assert [rows[f"series.dcm#{i}"]["error"] for i in (1, 2, 3)] == [None, None, "truncated"]
    assert rows["series.dcm#3"]["etag"] != rows["series.dcm#2"]["etag"]
    assert "claims 3 frames; the file holds 2" in rows["series.dcm#3"]["error_message"]


def test_the_model_is_the_same(every: ScoreConfig) -> None:
    assert every.decoder_suffix == replace(every, dicom_frames="first").decoder_suffix
    rows = list(pending_images(every, ModelIdentity("m"), IdSet(), Manifest("")))
    assert sum(map(len, rows)) == 8
