"""S3 Inventory as an input: the same images as a live listing, in both formats."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote_plus

import boto3
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from pipeline.config import ScoreConfig
from pipeline.identity import ModelIdentity
from pipeline.inputs import inventory
from pipeline.inputs.inventory import is_inventory, read_inventory
from pipeline.inputs.manifest import Manifest, build_manifest
from pipeline.inputs.objects import read_input
from pipeline.output.ledger import IdSet
from pipeline.storage import ObjectInfo, StorageError, list_objects, write_object
from tests.bucket import put

KEYS = ["line/cable/1 a+b%20#?.png", "line/ünï ✓.png", "top.png", "NA", "null/x.png", "//odd.png"]
FOLDER = "lists/source/daily"
MANIFEST = f"{FOLDER}/2026-11-23T01-00Z/manifest.json"
NAMES = {
    "bucket": "Bucket",
    "key": "Key",
    "version_id": "VersionId",
    "is_latest": "IsLatest",
    "is_delete_marker": "IsDeleteMarker",
    "size": "Size",
    "last_modified_date": "LastModifiedDate",
    "e_tag": "ETag",
    "storage_class": "StorageClass",
}
Rows = list[dict[str, Any]]
Write = Callable[[Rows], str]


@pytest.fixture
def source(bucket: str) -> str:
    """A bucket with images."""
    put(bucket, {key: f"bytes of {key}".encode() for key in KEYS})
    return bucket


@pytest.fixture
def destination(source: str) -> str:
    """The bucket that receives the inventories."""
    name = f"inventory-{source}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


SUFFIXES = {"Parquet": "parquet", "ORC": "orc", "CSV": "csv.gz"}


@pytest.fixture(params=["Parquet", "ORC", "CSV"])
def write(request: pytest.FixtureRequest, destination: str) -> Write:
    """Writes an inventory as S3 does, in two data files; returns its manifest's URI."""

    def written(rows: Rows) -> str:
        names = [name for name in NAMES if name in rows[0]]
        keys = []
        for part, some in enumerate((rows[:2], rows[2:])):
            keys.append(f"{FOLDER}/data/{part}.{SUFFIXES[request.param]}")
            made = {"Parquet": as_parquet, "ORC": as_orc, "CSV": partial(as_csv, names=names)}
            put(destination, {keys[-1]: made[request.param](some)})
        schema = ", ".join(NAMES[name] for name in names)
        return put_manifest(destination, keys, request.param, schema)

    return written


def put_manifest(bucket: str, keys: list[str], form: str, schema: str) -> str:
    manifest = {
        "sourceBucket": "source",
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": form,
        "fileSchema": schema if form == "CSV" else "message s3.inventory { ... }",
        "files": [{"key": key, "size": 1, "MD5checksum": "0"} for key in keys],
    }
    put(bucket, {MANIFEST: json.dumps(manifest).encode()})
    return f"s3://{bucket}/{MANIFEST}"


def typed(rows: Rows) -> pa.Table:
    table = pa.Table.from_pylist(rows)
    if "last_modified_date" in table.column_names:
        i = table.column_names.index("last_modified_date")
        time = table.column(i).cast(pa.timestamp("ms"))  # S3 writes no time zone
        table = table.set_column(i, "last_modified_date", time)
    return table


def as_parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(typed(rows), sink, row_group_size=2)
    return sink.getvalue()


def as_orc(rows: Rows) -> bytes:
    sink = io.BytesIO()
    orc.write_table(typed(rows), sink, compression="zlib")
    return sink.getvalue()


def as_csv(rows: Rows, names: list[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for row in rows:
        shown = {
            **row,
            "key": quote_plus(row["key"], safe="/"),
            "last_modified_date": f"{row['last_modified_date']:%Y-%m-%dT%H:%M:%S.000Z}",
        }
        plain = [shown[name] for name in names]
        writer.writerow(
            ["" if v is None else str(v).lower() if isinstance(v, bool) else v for v in plain]
        )
    return gzip.compress(text.getvalue().encode())


def versions(source: str) -> Rows:
    """What S3 would write of the bucket: ETags without quotes, every version."""
    return [
        {
            "bucket": source,
            "key": info.uri.removeprefix(f"s3://{source}/"),
            "version_id": "abc",
            "is_latest": True,
            "is_delete_marker": False,
            "size": info.size,
            "last_modified_date": (info.last_modified or datetime.now(UTC)).astimezone(UTC),
            "e_tag": info.etag.strip('"'),
            "storage_class": "STANDARD",
        }
        for info in live(source).values()
    ]


def live(source: str) -> dict[str, ObjectInfo]:
    return {info.uri: info for page in list_objects(f"s3://{source}") for info in page}


def read(uri: str) -> Rows:
    return [row for table in read_inventory(uri) for row in table.to_pylist()]


def build(source: str, done: IdSet, *inputs: str) -> Manifest:
    folder = f"s3://{source}-out/runs/{len(inputs)}/manifest"
    return build_manifest(config(source, *inputs), ModelIdentity("model"), done, folder)


def config(source: str, *inputs: str) -> ScoreConfig:
    return ScoreConfig(input=inputs, output=f"s3://{source}-out")


def test_an_inventory_tells_what_a_listing_tells(source: str, write: Write) -> None:
    rows = read(write(versions(source)))
    assert {row["uri"]: (row["etag"], row["size"]) for row in rows} == {
        info.uri: (info.etag, info.size) for info in live(source).values()
    }
    assert len(rows) == len(KEYS)
    for row in rows:
        assert row["last_modified"] == live(source)[row["uri"]].last_modified
        assert row["uri"] == f"s3://{source}/{row['key']}"


def test_a_run_fed_by_an_inventory_skips_all_of_a_run_fed_by_a_listing(
    source: str, write: Write
) -> None:
    boto3.client("s3").create_bucket(Bucket=f"{source}-out")
    manifest = write(versions(source))
    done = IdSet()
    assert build(source, done, f"s3://{source}").pending == len(KEYS)
    again = build(source, done, manifest)
    assert (again.listed, again.pending) == (len(KEYS), 0)
    both = build(source, IdSet(), manifest, f"s3://{source}")
    assert (both.listed, both.pending) == (len(KEYS), len(KEYS))


def test_old_versions_delete_markers_and_folder_markers_are_left_out(
    source: str, write: Write
) -> None:
    rows = versions(source)
    old = rows[0] | {"is_latest": False, "e_tag": "0" * 32}
    gone = rows[1] | {"key": "gone.png", "is_delete_marker": True, "size": None, "e_tag": None}
    marker = rows[2] | {"key": "line/", "size": 0}
    empty = rows[2] | {"key": "empty.png", "size": 0}
    found = read(write([old, gone, marker, empty, *rows]))
    assert sorted(row["key"] for row in found) == sorted([*KEYS, "empty.png"])
    assert old["e_tag"] not in {row["etag"].strip('"') for row in found}


def test_an_inventory_tells_of_archived_objects(source: str, write: Write) -> None:
    # A slash at the front is no part of what a row's key is below its bucket.
    first, second, *more = sorted(versions(source), key=lambda row: row["key"].startswith("/"))
    classes = [first | {"storage_class": "GLACIER"}, second | {"storage_class": "GLACIER_IR"}]
    found = [row for t in read_input(write([*classes, *more])) for row in t.to_pylist()]
    assert {row["key"] for row in found if row["error"] == "archived"} == {first["key"]}
    assert len(found) == len(KEYS)


def test_an_inventory_of_newest_versions_has_fewer_columns(source: str, write: Write) -> None:
    left_out = ("version_id", "is_latest", "is_delete_marker", "storage_class")
    rows = [{k: v for k, v in row.items() if k not in left_out} for row in versions(source)]
    assert len(read(write(rows))) == len(KEYS)


def test_a_missing_column_is_named_with_the_remedy(source: str, write: Write) -> None:
    rows = [{k: v for k, v in row.items() if k != "e_tag"} for row in versions(source)]
    with pytest.raises(ValueError, match="no column ETag; add it in the bucket's inventory"):
        read(write(rows))


def test_a_data_file_that_is_cut_short_or_gone_is_named(
    source: str, destination: str, write: Write
) -> None:
    uri = write(versions(source))
    client = boto3.client("s3")
    found = client.list_objects_v2(Bucket=destination, Prefix=f"{FOLDER}/data/")["Contents"]
    key = found[1]["Key"]
    whole = client.get_object(Bucket=destination, Key=key)["Body"].read()
    put(destination, {key: whole[: len(whole) // 2]})
    with pytest.raises(ValueError, match=rf"{key}.* can't be read"):
        read(uri)
    client.delete_object(Bucket=destination, Key=key)
    with pytest.raises(ValueError, match=rf"{key}.* can't be read"):
        read(uri)


def test_what_is_no_inventory_is_refused(destination: str) -> None:
    uri = f"s3://{destination}/{MANIFEST}"
    with pytest.raises(StorageError):
        read(uri)
    for text in (b"not JSON", b"[]", b'{"files": []}'):
        write_object(uri, text)
        with pytest.raises(ValueError, match="not the manifest of an S3 Inventory"):
            read(uri)
    put_manifest(destination, [], "Avro", "")
    with pytest.raises(ValueError, match="is Avro, not Parquet, ORC or CSV"):
        read(uri)


def test_only_a_manifest_in_a_bucket_is_an_inventory() -> None:
    assert is_inventory(f"s3://bucket/{MANIFEST}")
    assert not is_inventory("s3://bucket/lists/data.parquet")
    assert not is_inventory("file:///images/manifest.json")


@pytest.mark.parametrize(("form", "written"), [("Parquet", pq), ("ORC", orc)])
def test_a_large_row_group_comes_in_batches(
    form: str, written: Any, source: str, destination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "BATCH_ROWS", 50)
    row = versions(source)[0]
    sink = io.BytesIO()
    written.write_table(pa.Table.from_pylist([row | {"key": f"{i}.png"} for i in range(500)]), sink)
    put(destination, {"data": sink.getvalue()})
    tables = list(read_inventory(put_manifest(destination, ["data"], form, "")))
    assert [len(table) for table in tables] == [50] * 10
