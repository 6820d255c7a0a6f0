"""S3 Inventory instead of a listing: S3's own daily table of a bucket, in any of its formats.

A bucket of a billion objects takes a million requests to list; its inventory is read like any
table. It is a day or two old: objects put since are found by the next run, and objects deleted
since end as ``not_found`` rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from pipeline.schema import MANIFEST_SCHEMA
from pipeline.storage import ARCHIVES, arrow_filesystem, read_object

BATCH_ROWS = 1 << 16

# Names in Parquet files, and in the "fileSchema" of CSV files, which have no header.
_CSV_NAMES = {
    "bucket": "Bucket",
    "key": "Key",
    "size": "Size",
    "e_tag": "ETag",
    "last_modified_date": "LastModifiedDate",
    "is_latest": "IsLatest",
    "is_delete_marker": "IsDeleteMarker",
    "storage_class": "StorageClass",
}
_REQUIRED = ("bucket", "key", "size", "e_tag")


def is_inventory(uri: str) -> bool:
    """Whether an input is the ``manifest.json`` of an inventory."""
    return uri.startswith("s3://") and uri.endswith("/manifest.json")


def read_inventory(uri: str) -> Iterator[pa.Table]:
    """The newest version of every object in an inventory, as a live listing would give it.

    Old versions, delete markers and folder markers are left out. Memory is bounded, whatever the
    length of the inventory.

    Args:
        uri: its ``manifest.json``, where S3 wrote it.

    Returns:
        Tables with uri, etag, size and last_modified as in ``MANIFEST_SCHEMA``, the key, and
        whether the object is archived. An inventory tells of classes, not of restored copies.

    Raises:
        StorageError: the manifest can't be read.
        ValueError: it is no inventory, lacks a column, or one of its files can't be read.
    """
    data, _ = read_object(uri)
    try:
        manifest = json.loads(data)
        form, schema = manifest["fileFormat"], manifest["fileSchema"]
        keys = [file["key"] for file in manifest["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{uri} is not the manifest of an S3 Inventory: {error!r}") from error
    if form not in ("Parquet", "ORC", "CSV"):
        raise ValueError(f"the inventory {uri} is {form}, not Parquet, ORC or CSV")
    bucket = uri.removeprefix("s3://").partition("/")[0]
    for key in keys:
        file = f"s3://{bucket}/{key}"
        try:
            for batch in _batches(file, form, schema):
                yield _current(batch)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise ValueError(f"{file}, of the inventory {uri}, can't be read: {error}") from error


def _batches(uri: str, form: str, schema: str) -> Iterator[pa.Table]:
    if form == "CSV":
        return _csv_batches(uri, schema)
    return _parquet_batches(uri) if form == "Parquet" else _orc_batches(uri)


def _orc_batches(uri: str) -> Iterator[pa.Table]:
    """A stripe at a time, of which ORC's writers make 64 MB."""
    from pyarrow import orc  # not above: few need it, and it loads a library of its own

    filesystem, path = arrow_filesystem(uri)
    with filesystem.open_input_file(path) as source:
        file = orc.ORCFile(source)
        columns = _columns(file.schema.names)
        for stripe in range(file.nstripes):
            rows = pa.table(file.read_stripe(stripe, columns=columns))
            for start in range(0, len(rows), BATCH_ROWS):
                yield rows[start : start + BATCH_ROWS]


def _parquet_batches(uri: str) -> Iterator[pa.Table]:
    filesystem, path = arrow_filesystem(uri)
    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(source)
        columns = _columns(file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
            yield pa.table(batch)


def _csv_batches(uri: str, schema: str) -> Iterator[pa.Table]:
    """CSV as Parquet would give it: keys decoded, numbers, times and truth values typed."""
    by_csv_name = {name: ours for ours, name in _CSV_NAMES.items()}
    names = [by_csv_name.get(name.strip(), name.strip()) for name in schema.split(",")]
    columns = _columns(names)
    filesystem, path = arrow_filesystem(uri)
    with filesystem.open_input_stream(path) as source:  # unpacks .gz by its name
        reader = csv.open_csv(
            source,
            read_options=csv.ReadOptions(column_names=names),
            convert_options=csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns, pa.string())
            ),
        )
        for batch in reader:
            table = pa.table(batch)
            typed: dict[str, Any] = {name: table[name] for name in columns}
            # Form encoding, with "+" for a space (cloud-custodian#1997).
            typed["key"] = pa.array(
                [unquote_plus(key, errors="strict") for key in table["key"].to_pylist()],
                pa.string(),
            )
            for name in {"size", "last_modified_date"} & typed.keys():
                kind = pa.int64() if name == "size" else pa.timestamp("us", tz="UTC")
                text = typed[name]  # empty for a delete marker
                typed[name] = pc.if_else(pc.equal(text, ""), None, text).cast(kind)
            for name in {"is_latest", "is_delete_marker"} & typed.keys():
                typed[name] = pc.equal(pc.utf8_lower(typed[name]), "true")
            yield pa.table(typed)


def _columns(names: list[str]) -> list[str]:
    missing = [_CSV_NAMES[name] for name in _REQUIRED if name not in names]
    if missing:
        raise ValueError(
            f"it has no column {' and '.join(missing)}; add it in the bucket's inventory "
            "configuration (optional fields)"
        )
    return [name for name in _CSV_NAMES if name in names]


def _current(rows: pa.Table) -> pa.Table:
    names = rows.column_names
    folder_marker = pc.and_(pc.equal(rows["size"], 0), pc.ends_with(rows["key"], "/"))
    # Delete markers of inventories without that column have no size and no ETag either.
    keep = pc.and_(pc.is_valid(rows["size"]), pc.invert(pc.fill_null(folder_marker, False)))
    if "is_latest" in names:
        keep = pc.and_(keep, pc.fill_null(rows["is_latest"], True))
    if "is_delete_marker" in names:
        keep = pc.and_(keep, pc.invert(pc.fill_null(rows["is_delete_marker"], False)))
    rows = rows.filter(keep)
    uri = pc.binary_join_element_wise("s3:/", rows["bucket"], rows["key"], "/")
    # Listings and reads give an ETag in its quotes, inventories without.
    etag = pc.binary_join_element_wise("", pc.utf8_trim(rows["e_tag"], '"'), "", '"')
    time = MANIFEST_SCHEMA.field("last_modified").type
    modified: Any = pa.nulls(len(rows), time)
    if "last_modified_date" in names:
        modified = rows["last_modified_date"]
        if modified.type.tz is None:
            modified = pc.assume_timezone(modified, "UTC")
    archived: Any = pa.repeat(pa.scalar(False), len(rows))
    if "storage_class" in names:
        archived = pc.is_in(rows["storage_class"], pa.array(ARCHIVES))
    return pa.table(
        {
            "uri": uri,
            "etag": etag,
            "size": rows["size"].cast(pa.int64()),
            "last_modified": modified.cast(time),
            "key": rows["key"],
            "archived": archived,
        }
    )
