"""Inputs → rows of the manifest: globs, overlaps, and what is done already."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pytest

from pipeline.config import ScoreConfig
from pipeline.identity import ModelIdentity
from pipeline.inputs import manifest as manifest_module
from pipeline.inputs.manifest import Manifest, build_manifest, pending_images
from pipeline.output.ledger import ID_TYPE, IdSet, ids_from_hex
from pipeline.output.lock import OutputLock
from pipeline.schema import image_id
from pipeline.storage import StorageError, stat
from tests.bucket import put
from tests.inputs.building import IDENTITY, MODEL, Rows, build, names, write


def test_a_row_tells_what_the_listing_told(config: ScoreConfig, images: Path) -> None:
    _, rows = build(replace(config, include=("*3.jpg",)))
    info = stat(f"file://{images}/metal-nut/3.JPG")
    assert rows == [
        {
            "image_id": image_id(info.uri, info.etag, MODEL, "metal-nut").hex(),
            "uri": info.uri,
            "etag": info.etag,
            "size": 1,
            "last_modified": info.last_modified,
            "category": "metal-nut",
            "error": None,
            "error_message": None,
        }
    ]


def test_globs_choose_keys_below_the_input_in_any_case(config: ScoreConfig) -> None:
    manifest, rows = build(replace(config, include=("*.JPG", "bottle/*"), exclude=("*/GOOD/*",)))
    assert names(rows) == ["1.png", "3.JPG"]
    assert (manifest.listed, manifest.excluded) == (2, 2)


def test_an_older_output_below_an_input_is_left_out_and_said(
    images: Path, config: ScoreConfig
) -> None:
    older = images / "older"
    with OutputLock(str(older), run_id="older"):
        pass
    write(older / "scores/scan_date=2026-11-20/part-1.parquet")
    write(older / "runs/20261120T010203Z-0a1b2c/report.html")
    write(older / "plots/01-set-curves.png")
    manifest, rows = build(config)
    assert names(rows) == ["1.png", "2.png", "3.JPG", "top.png"]
    assert manifest.excluded == 0
    remark = manifest.remarks()[0]
    assert remark == f"file://{older} is the output of another job: its 4 files are left out"


def test_the_output_below_an_input_is_left_out(images: Path) -> None:
    output = images / "out"
    config = ScoreConfig(input=(str(images),), output=str(output))
    for key in ("scores/scan_date=2025-01-01/a.parquet", "maps/a.parquet", "runs/1/config.json"):
        write(output / key)
    manifest, rows = build(config)
    assert names(rows) == ["1.png", "2.png", "3.JPG", "top.png"]
    assert manifest.excluded == 0


def test_an_input_below_the_output_is_read(config: ScoreConfig, images: Path) -> None:
    _, rows = build(replace(config, output=str(images.parent)))
    assert len(rows) == 4


def test_the_output_next_to_an_input_of_a_similar_name_is_no_part_of_it(tmp_path: Path) -> None:
    write(tmp_path / "out-images" / "a.png")
    config = ScoreConfig(input=(str(tmp_path / "out-images"),), output=str(tmp_path / "out"))
    assert names(build(config)[1]) == ["a.png"]


def test_objects_of_overlapping_inputs_count_once_under_the_first_inputs_class(
    config: ScoreConfig, images: Path
) -> None:
    inputs = (str(images), str(images / "bottle"), str(images / "bottle" / "1.png"), str(images))
    manifest, rows = build(replace(config, input=inputs))
    assert manifest.listed == len(rows) == 4
    assert {row["category"] for row in rows} == {"bottle", "metal-nut", "object"}


def test_several_inputs_are_read_together(
    config: ScoreConfig, images: Path, tmp_path: Path, bucket: str
) -> None:
    put(bucket, {"line/cable/a b+c%20#?.png": b"12345"})
    single = write(tmp_path / "single.png")
    inputs = (str(images / "bottle"), f"s3://{bucket}/line/", str(single))
    manifest, rows = build(replace(config, input=inputs))
    assert names(rows) == ["1.png", "2.png", "a b+c%20#?.png", "single.png"]
    assert {row["category"] for row in rows} == {"object", "good", "cable"}
    assert manifest.pending_bytes == 8


def test_the_root_of_a_bucket_can_be_an_input_and_the_output_too(bucket: str) -> None:
    put(bucket, {"cable/1.png": b"x", "2.png": b"x", "scores/old.parquet": b"x"})
    config = ScoreConfig(input=(f"s3://{bucket}",), output=f"s3://{bucket}/")
    manifest = build_manifest(config, IDENTITY, IdSet(), f"s3://{bucket}/runs/1/manifest")
    assert manifest.listed == 2
    assert build_manifest(config, IDENTITY, IdSet(), f"s3://{bucket}/runs/2/manifest").listed == 2


def test_an_input_that_is_missing_is_an_error_and_an_empty_prefix_is_not(
    config: ScoreConfig, bucket: str
) -> None:
    with pytest.raises(StorageError):
        build(replace(config, input=("/nowhere/at/all",)))
    manifest, rows = build(replace(config, input=(f"s3://{bucket}/nothing",)))
    assert (manifest.listed, manifest.files, rows) == (0, [], [])


def test_a_list_is_read_under_any_model_also_one_without_a_name(
    config: ScoreConfig, images: Path, tmp_path: Path
) -> None:
    listed = write(tmp_path / "list.csv", f"uri,category\n{images}/bolt/a.jpg,bolt".encode())
    config = replace(config, input=(str(listed),))
    for model in ("m", ""):
        (rows,) = pending_images(config, ModelIdentity(model), IdSet(), Manifest(""))
        assert rows["category"].to_pylist() == ["bolt"]


def test_an_object_in_a_list_and_in_a_folder_counts_once(
    config: ScoreConfig, images: Path, tmp_path: Path
) -> None:
    listing = f"uri,category\n{images}/bottle/1.png,bottle\n"
    source = write(tmp_path / "list.csv", listing.encode())
    manifest, _ = build(replace(config, input=(str(source), str(images))))
    assert (manifest.listed, manifest.skipped) == (4, 0)


def test_an_object_of_a_list_that_is_missing_has_a_row_without_a_version(
    config: ScoreConfig, tmp_path: Path
) -> None:
    source = write(tmp_path / "list.csv", b"uri,category\n/nowhere/a.png,cable\n")
    _, [row] = build(replace(config, input=(str(source),)))
    assert (row["error"], row["category"]) == ("not_found", "cable")
    assert (row["etag"], row["size"], row["last_modified"]) == (None, None, None)


def test_many_rows_make_several_files(config: ScoreConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "ROWS_PER_FILE", 2)
    seen: list[int] = []
    done = IdSet()
    folder = f"{config.output}/runs/1/manifest"
    manifest = build_manifest(config, IDENTITY, done, folder, lambda m: seen.append(m.listed))
    assert len(manifest.files) == len(set(manifest.files)) == 2
    assert seen == [2, 4]
    assert len(done) == 4


def test_a_second_build_finds_everything_done(config: ScoreConfig, images: Path) -> None:
    first, rows = build(config)
    assert (first.listed, first.skipped, first.pending) == (4, 0, 4)
    second, _ = build(config, ledger(rows))
    assert (second.listed, second.skipped, second.pending, second.files) == (4, 4, 0, [])
    write(images / "new.png", b"123")
    third, new_rows = build(config, ledger(rows))
    assert (third.skipped, third.pending, third.pending_bytes) == (4, 1, 3)
    assert names(new_rows) == ["new.png"]


def ledger(rows: Rows) -> IdSet:
    done = IdSet()
    done.add_new(ids_from_hex(pa.array([row["image_id"] for row in rows])))
    return done


def test_the_same_bytes_uploaded_again_are_no_new_image(config: ScoreConfig, bucket: str) -> None:
    put(bucket, {"cable/a.png": b"version 1"})
    config = replace(config, input=(f"s3://{bucket}",))
    _, rows = build(config)
    put(bucket, {"cable/a.png": b"version 1"})
    assert build(config, ledger(rows))[0].pending == 0
    put(bucket, {"cable/a.png": b"version 2"})
    assert build(config, ledger(rows))[0].pending == 1


def test_references_of_one_category_leave_the_ids_of_the_others(config: ScoreConfig) -> None:
    _, rows = build(config)

    def pending(done: IdSet, **references: str) -> Rows:
        identity = ModelIdentity(MODEL, references)
        tables = pending_images(config, identity, done, Manifest(""))
        return [row for table in tables for row in table.to_pylist()]

    first = pending(ledger(rows), bottle="1")
    assert names(first) == ["1.png", "2.png"]
    assert not {row["image_id"] for row in first} & {row["image_id"] for row in rows}
    done = ledger(rows + first)
    assert pending(done, bottle="1") == []
    second = pending(done, bottle="2")
    assert names(second) == ["1.png", "2.png"], "refreshed"
    assert names(pending(done, bottle="1", **{"metal-nut": "3"})) == ["3.JPG"], "another joins"


def test_image_id_is_the_same_today_and_tomorrow() -> None:
    name = image_id("s3://bucket/bottle/ü.png", '"0123"', "model-1", "bottle")
    assert name.hex() == "8acd467de9345fab288a78c9de38ae48"


def test_image_id_depends_on_every_part_and_on_where_it_stands() -> None:
    parts = ["s3://b/k", "etag", "model", "category"]
    made = [image_id(*parts)]
    made += [image_id(*parts[:i], parts[i] + "x", *parts[i + 1 :]) for i in range(4)]
    made.append(image_id("s3://b/ke", "tag", "model", "category"))
    made.append(image_id("s3://b/k", "etagm", "odel", "category"))
    assert max(Counter(made).values()) == 1
    assert all(len(value) == 16 for value in made)
    assert IdSet().add_new(np.array(made, dtype=ID_TYPE)).all()


def test_since_leaves_out_what_is_older_but_not_what_has_no_time(
    config: ScoreConfig, images: Path, tmp_path: Path
) -> None:
    old = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
    os.utime(images / "top.png", (old, old))
    for since in ("2026-01-02", "2026-01-01T12:00:01Z", "2026-01-01T14:01+02:00", "1h"):
        found, rows = build(replace(config, since=since))
        assert (found.listed, found.excluded) == (3, 1)
        assert "top.png" not in names(rows)
    assert build(replace(config, since="2026-01-01"))[0].listed == 4
    listing = write(tmp_path / "list.csv", b"uri\n/nowhere/a.png\n")
    _, [row] = build(replace(config, input=(str(listing),), since="1h"))
    assert row["error"] == "not_found"


@pytest.mark.parametrize("chunk", [1, 2, 10_000])
def test_a_limit_takes_new_images_only_and_the_next_run_goes_on(
    config: ScoreConfig, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(manifest_module, "ROWS_PER_FILE", chunk)
    limited, done, taken = replace(config, limit=3), IdSet(), list[str]()
    for expected in (3, 1, 0):
        found, rows = build(limited, done)
        taken += names(rows)
        assert found.pending == expected
        done = IdSet()
        done.add_new(ids_from_hex(pa.array([image_id_of(config, name) for name in taken])))
    assert sorted(taken) == ["1.png", "2.png", "3.JPG", "top.png"]


def image_id_of(config: ScoreConfig, name: str) -> str:
    _, rows = build(config)
    return next(row["image_id"] for row in rows if row["uri"].endswith(f"/{name}"))


def test_a_lock_and_other_files_of_the_output_are_no_images(config: ScoreConfig) -> None:
    inside = replace(config, output=f"{config.input[0]}/out")
    for name in ("lock.json", "runs/1/config.json", "scores/x.parquet"):
        write(Path(inside.output) / name)
    write(Path(inside.output) / "runs.png")
    assert "lock.json" not in names(build(inside)[1])
    assert "runs.png" in names(build(inside)[1])


def put_as(bucket: str, storage_class: str, *keys: str) -> None:
    for key in keys:
        boto3.client("s3").put_object(
            Bucket=bucket, Key=key, Body=key.encode(), StorageClass=storage_class
        )


def night(bucket: str, ledger: list[str], *inputs: str) -> dict[str, str | None]:
    """What one more night has to do, error code by key; all of it then stands in the ledger."""
    config = ScoreConfig(
        input=inputs or (f"s3://{bucket}/in",), output=f"s3://{bucket}/out", category="nut"
    )
    done = IdSet()
    done.add_new(ids_from_hex(pa.array(ledger, pa.string())))
    tables = list(pending_images(config, IDENTITY, done, Manifest("")))
    rows = pa.concat_tables(tables).to_pylist() if tables else []
    ledger += [row["image_id"] for row in rows]
    assert len(set(ledger)) == len(ledger)
    assert all(row["size"] for row in rows)
    return {row["uri"].rsplit("/", 1)[1]: row["error"] for row in rows}


def test_archived_objects_get_one_row_and_are_scored_once_they_are_restored(bucket: str) -> None:
    """Twelve objects had fourteen rows: "access_denied", fetched anew every night."""
    put_as(bucket, "GLACIER", "in/a.png")
    put_as(bucket, "DEEP_ARCHIVE", "in/b.png")
    put_as(bucket, "STANDARD", "in/c.png")
    ledger: list[str] = []
    assert night(bucket, ledger) == {"a.png": "archived", "b.png": "archived", "c.png": None}
    assert night(bucket, ledger) == {}
    put_as(bucket, "STANDARD", "in/a.png")  # of the same bytes, so of the same ETag
    assert night(bucket, ledger) == {"a.png": None}
    put_as(bucket, "GLACIER", "in/a.png", "in/c.png")
    assert night(bucket, ledger) == {}, "what was scored stays scored"


def test_a_list_tells_of_archived_objects_too(bucket: str) -> None:
    put_as(bucket, "GLACIER", "in/a.png")
    put(bucket, {"list.csv": f"uri\ns3://{bucket}/in/a.png\n".encode()})
    ledger: list[str] = []
    assert night(bucket, ledger, f"s3://{bucket}/list.csv") == {"a.png": "archived"}
    assert night(bucket, ledger) == {}
