"""What the inputs of a run name: folders, lists of URIs and S3 Inventories, as columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.dataset as ds

from pipeline.config import DEFAULT_CATEGORY_COLUMN
from pipeline.redaction import holds_credential
from pipeline.schema import MANIFEST_SCHEMA, ErrorCode
from pipeline.storage import (
    LISTING_THREADS,
    ObjectInfo,
    StorageError,
    arrow_filesystem,
    key_of,
    list_objects,
    stat,
)

from .inventory import is_inventory, read_inventory
from .lists import LIST_SUFFIXES, as_text, is_list, resolved, spelled, tell_lookalikes
from .shards import Named, find_member, image_column

__all__ = ["LISTED_SCHEMA", "LIST_SUFFIXES", "read_input"]

ARCHIVED_MESSAGE = "it lies in an archive; restore it, and the next run scores it"
LIST_BATCH_ROWS = 10_000  # looked up side by side before any of them goes on
_LIKE_A_FILE = re.compile(r"(?:s3|gs|abfs)://.*\.[A-Za-z]\w{1,4}", re.DOTALL)  # a.png, a.tar

# Objects of an input, with what the input says of them. A Python object for each would take most of
# the time and memory of a listing of millions, so they travel as columns.
LISTED_SCHEMA = pa.schema(
    [
        *[MANIFEST_SCHEMA.field(name) for name in ("uri", "etag", "size", "last_modified")],
        pa.field("key", pa.string(), metadata={"doc": "path below the folder, bucket or root"}),
        pa.field(
            "folder", pa.string(), metadata={"doc": "of the key, if it is not what is before its /"}
        ),
        pa.field("category", pa.string(), metadata={"doc": "from a list's column, '' if empty"}),
        *[MANIFEST_SCHEMA.field(name) for name in ("error", "error_message")],
    ]
)


def read_input(source: str, category_column: str = DEFAULT_CATEGORY_COLUMN) -> Iterator[pa.Table]:
    """The objects of an input in tables of any length (``LISTED_SCHEMA``), in no fixed order.

    Args:
        source: absolute URI of a folder, an object, a list, or an S3 Inventory's manifest.
        category_column: column of a list that names the class.

    Raises:
        StorageError: the input can't be listed.
        ValueError: a list or inventory lacks a column or can't be read.
    """
    if is_list(source) and not _is_shard(source):
        yield from _from_list(source, category_column)
    elif is_inventory(source):
        for objects in read_inventory(source):
            key = pc.utf8_ltrim(objects["key"], "/")
            objects = objects.set_column(objects.column_names.index("key"), "key", key)
            yield _complete(_with_archived(objects, objects["archived"]))
    else:
        for page in _listed(source):
            uris = [info.uri for info in page]
            keys = [u.removeprefix(source).lstrip("/") or u.rsplit("/", 1)[-1] for u in uris]
            columns = _columns(page).append_column("key", pa.array(keys, pa.string()))
            yield _complete(_with_archived(columns, pa.array([info.archived for info in page])))


def _listed(source: str) -> Iterator[list[ObjectInfo]]:
    """Pages of the objects below a folder, and the object that has the folder's own name.

    Stores with keys may hold ``a.png`` beside ``a.png/1.png``. A listing gives only the latter, so
    the former takes a request; names that are like no file's are spared that, and an object of such
    a name is mostly what a tool left to mark the folder, as one without bytes is.

    Raises:
        StorageError: the input can't be listed.
    """
    below = False
    for page in list_objects(source):
        below = page[0].uri != source
        yield page
    if not (below and _LIKE_A_FILE.fullmatch(source) and key_of(source)):
        return
    try:
        info = stat(source)
    except StorageError as error:  # who may read what is below may be denied what is not there
        if error.code not in (ErrorCode.NOT_FOUND, ErrorCode.ACCESS_DENIED):
            raise
    else:
        if info.size:
            yield [info]


def _is_shard(source: str) -> bool:
    """Whether a Parquet file holds images instead of their URIs.

    Raises:
        ValueError: it holds neither; names its columns.
    """
    if not source.lower().endswith(".parquet"):
        return False
    try:
        schema = _list_dataset(source).schema
    except (OSError, pa.ArrowException, ValueError):  # reading it as a list says why
        return False
    if "uri" in map(str.strip, schema.names):
        return False
    try:
        image_column(schema)
    except ValueError as error:
        raise ValueError(f"{source} has no column 'uri', so it is no list, and {error}") from None
    return True


def _columns(objects: list[ObjectInfo]) -> pa.Table:
    names = ("uri", "etag", "size", "last_modified")
    return pa.table(
        [
            pa.array([getattr(info, name) for info in objects], LISTED_SCHEMA.field(name).type)
            for name in names
        ],
        names=list(names),
    )


def _with_archived(objects: pa.Table, archived: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Objects with their error, for those that must be restored before they can be read."""
    for name, text in (("error", ErrorCode.ARCHIVED.value), ("error_message", ARCHIVED_MESSAGE)):
        column = pc.if_else(archived, text, pa.scalar(None, pa.string()))
        objects = objects.append_column(name, column)
    return objects


def _complete(objects: pa.Table) -> pa.Table:
    """Columns that an input says nothing of are null."""
    arrays = [
        objects[f.name] if f.name in objects.column_names else pa.nulls(len(objects), f.type)
        for f in LISTED_SCHEMA
    ]
    return pa.table(arrays, schema=LISTED_SCHEMA)


def _from_list(source: str, category_column: str) -> Iterator[pa.Table]:
    """The objects of a Parquet or CSV list, each looked up for its version and size."""
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        for names, categories in _list_batches(source, category_column):
            if not all(names):
                raise ValueError(f"{source} has rows without a uri")
            uris = [resolved(name, source) for name in names if name]
            if any(map(holds_credential, uris)):
                raise ValueError(
                    f"{source} names URIs with a password or a signature, which the manifest and "
                    "every row would repeat; name the objects without, as s3://bucket/key"
                )
            found = list(pool.map(_look_up, uris))
            problems = [each.problem for each in found]
            classes = zip(found, categories, strict=True)
            columns: dict[str, list[Any]] = {
                "key": [key_of(uri) for uri in uris],
                "folder": [each.folder for each in found],
                "category": [each.category if own is None else own for each, own in classes],
                "error": [p and p.code.value for p in problems],
                "error_message": [p and str(p) for p in problems],
            }
            objects = _columns([each.info for each in found])
            for name, values in columns.items():
                objects = objects.append_column(name, pa.array(values, pa.string()))
            yield _complete(objects)


def _list_batches(
    source: str, category_column: str
) -> Iterator[tuple[list[str | None], list[str | None]]]:
    """Names of objects, and of their classes: "" in an empty cell, None without such a column."""
    try:
        dataset = _list_dataset(source)
        columns = spelled(dataset.schema.names, source)
        if "uri" not in columns:
            raise ValueError(f"{source} has no column 'uri' (it has: {', '.join(columns)})")
        if category_column not in columns:
            if category_column != DEFAULT_CATEGORY_COLUMN:  # asked for by name
                raise ValueError(f"{source} has no column {category_column!r}")
            tell_lookalikes(source, columns, [DEFAULT_CATEGORY_COLUMN])
        kept = [columns[name] for name in ("uri", category_column) if name in columns]
        for batch in dataset.to_batches(columns=kept, batch_size=LIST_BATCH_ROWS):
            named = as_text(batch.column(0), "uri", source).to_pylist()
            if columns["uri"] != "uri":  # a blank after the comma, also before each name
                named = [name and name.strip() for name in named]
            categories: list[str | None] = [None] * len(named)
            if len(kept) > 1:
                given = as_text(batch.column(1), category_column, source).to_pylist()
                categories = [name or "" for name in given]
            yield named, categories
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"the input list {source} can't be read: {error}") from error


def _list_dataset(source: str) -> ds.Dataset:
    """A list whose CSV columns are all text: a class may be called "007", a note look like 55."""
    filesystem, path = arrow_filesystem(source)
    if not source.lower().endswith(".csv"):
        return ds.dataset(path, filesystem=filesystem, format=ds.ParquetFileFormat())
    form = ds.CsvFileFormat(parse_options=csv.ParseOptions(newlines_in_values=True))
    names = ds.dataset(path, filesystem=filesystem, format=form).schema.names
    spelled(names, source)  # a schema with a name twice could not be read
    schema = pa.schema([pa.field(name, pa.string()) for name in names])
    return ds.dataset(path, filesystem=filesystem, format=form, schema=schema)


def _look_up(uri: str) -> Named:
    try:
        info = stat(uri)
        problem = StorageError(ErrorCode.ARCHIVED, ARCHIVED_MESSAGE) if info.archived else None
        return Named(info, problem)
    except StorageError as error:
        return find_member(uri, error) or Named(ObjectInfo(uri, "", 0, None), error)
