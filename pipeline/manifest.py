"""What a run has to do: inputs → objects → rows of the manifest, without those already scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from .config import DEFAULT_CATEGORY_COLUMN, ScoreConfig
from .ledger import ID_TYPE, IdSet
from .schema import MANIFEST_SCHEMA, ErrorCode, image_id
from .storage import (
    LISTING_THREADS,
    ObjectInfo,
    StorageError,
    absolute,
    arrow_filesystem,
    list_objects,
    stat,
    write_object,
)

ROWS_PER_FILE = 10_000  # 1 MB of manifest; Ray Data cuts a file into blocks in one task
DEFAULT_CATEGORY = "object"  # for a key with no folder below the prefix
LIST_SUFFIXES = (".parquet", ".csv")
OUTPUT_FOLDERS = ("scores", "maps", "runs")  # what a job writes below its output


@dataclass(frozen=True)
class Listed:
    """An object of an input, with what the input says of it."""

    info: ObjectInfo
    key: str
    """Path below the input's folder; for lists, the path below the bucket or root."""
    category: str | None = None
    """From a list's column."""
    problem: StorageError | None = None
    """Why the object could not be looked up."""


@dataclass
class Manifest:
    """The images of a run, as Parquet files beside its results."""

    folder: str
    files: list[str] = field(default_factory=list)
    listed: int = 0
    """Objects that the inputs name and the globs let through, each counted once."""
    excluded: int = 0
    """Objects that the globs leave out."""
    skipped: int = 0
    """Listed objects that the ledger holds already."""
    pending: int = 0
    """Rows of the manifest: listed − skipped."""
    pending_bytes: int = 0


def build_manifest(
    config: ScoreConfig,
    model: str,
    done: IdSet,
    folder: str,
    on_progress: Callable[[Manifest], None] = lambda manifest: None,
) -> Manifest:
    """List the inputs and write the rows that are not done to ``folder``.

    Args:
        config: inputs, globs and the category rule.
        model: fingerprint, part of every image_id.
        done: the ledger; the new ids are added to it.
        folder: where the Parquet files go.
        on_progress: called after every file's worth of objects.

    Raises:
        StorageError: an input can't be listed, or the folder can't be written.
        ValueError: an input list has no column "uri".
    """
    manifest = Manifest(folder)
    rows: list[dict[str, Any]] = []
    seen = IdSet()
    objects = _selected(config, manifest)
    while chunk := list(islice(objects, ROWS_PER_FILE)):
        built = [_row(item, config, model) for item in chunk]
        ids = np.array([row["image_id"] for row in built], dtype=ID_TYPE)
        # Inputs may overlap, and a list may name an object twice: each counts once. Where the
        # folders below two inputs give it two class names, the first input's holds.
        first = seen.add_new(ids)
        first &= seen.add_new(np.array([_without_rule(item) for item in chunk], dtype=ID_TYPE))
        new = np.zeros(len(ids), dtype=bool)
        new[first] = done.add_new(ids[first])
        manifest.listed += int(first.sum())
        manifest.skipped += int((first & ~new).sum())
        rows += [row for row, is_new in zip(built, new, strict=True) if is_new]
        if len(rows) >= ROWS_PER_FILE:
            _write(manifest, rows)
            rows = []
        on_progress(manifest)
    if rows:
        _write(manifest, rows)
    return manifest


def category_of(item: Listed, config: ScoreConfig) -> str | None:
    """The class name that the configured rule gives an object, None if it gives none."""
    if config.category is not None:
        return config.category
    if config.category_regex is not None:
        match = re.search(config.category_regex, item.info.uri)
        return ((match["category"] or "").strip() or None) if match else None
    if item.category is not None:
        return item.category.strip() or None
    folders = [name.strip() for name in item.key.split("/")[:-1] if name.strip()]
    level = config.category_level
    return folders[level] if -len(folders) <= level < len(folders) else DEFAULT_CATEGORY


def _selected(config: ScoreConfig, manifest: Manifest) -> Iterator[Listed]:
    output = absolute(config.output)
    written = tuple(f"{output}/{name}/" for name in OUTPUT_FOLDERS)
    include = [glob.lower() for glob in config.include]
    exclude = [glob.lower() for glob in config.exclude]
    for uri in config.input:
        for item in _items(absolute(uri), config):
            if item.info.uri.startswith(written):
                continue  # the output may lie below the input
            key = item.key.lower()
            wanted = not include or any(fnmatchcase(key, glob) for glob in include)
            if wanted and not any(fnmatchcase(key, glob) for glob in exclude):
                yield item
            else:
                manifest.excluded += 1


def _items(source: str, config: ScoreConfig) -> Iterator[Listed]:
    if source.lower().endswith(LIST_SUFFIXES):
        yield from _from_list(source, config.category_column)
        return
    for page in list_objects(source):
        for info in page:
            key = info.uri.removeprefix(source).lstrip("/") or info.uri.rsplit("/", 1)[-1]
            yield Listed(info, key)


def _from_list(source: str, category_column: str) -> Iterator[Listed]:
    """The objects of a Parquet or CSV list, each looked up for its version and size."""
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        for batch in _list_batches(source, category_column):
            names = batch.schema.names
            if "uri" not in names:
                raise ValueError(f"{source} has no column 'uri' (it has: {', '.join(names)})")
            uris = batch.column("uri").to_pylist()
            if not all(uris):
                raise ValueError(f"{source} has rows without a uri")
            uris = [absolute(uri) for uri in uris]
            categories: list[Any] = [None] * len(uris)
            if category_column in names:
                categories = batch.column(category_column).to_pylist()
            elif category_column != DEFAULT_CATEGORY_COLUMN:  # asked for by name
                raise ValueError(f"{source} has no column {category_column!r}")
            for found, category in zip(pool.map(_look_up, uris), categories, strict=True):
                info, problem = found
                key = info.uri.split("://", 1)[1].partition("/")[2]
                yield Listed(info, key, None if category is None else str(category), problem)


def _list_batches(source: str, category_column: str) -> Iterator[pa.RecordBatch]:
    filesystem, path = arrow_filesystem(source)
    try:
        form = ds.ParquetFileFormat()
        if source.lower().endswith(".csv"):
            # Text, whatever it looks like: a class may be called "007", a key may hold line breaks.
            text = dict.fromkeys(("uri", category_column), pa.string())
            form = ds.CsvFileFormat(
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(column_types=text),
            )
        dataset = ds.dataset(path, filesystem=filesystem, format=form)
        yield from dataset.to_batches(batch_size=ROWS_PER_FILE)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"the input list {source} can't be read: {error}") from error


def _look_up(uri: str) -> tuple[ObjectInfo, StorageError | None]:
    try:
        return stat(uri), None
    except StorageError as error:
        return ObjectInfo(uri, "", 0, None), error


def _without_rule(item: Listed) -> bytes:
    """Identity of an object but for the class name that a rule gives it; a list's counts."""
    return image_id(item.info.uri, item.info.etag, "", item.category or "")


def _row(item: Listed, config: ScoreConfig, model: str) -> dict[str, Any]:
    info, category = item.info, category_of(item, config)
    row: dict[str, Any] = {
        "image_id": image_id(info.uri, info.etag, model, category or ""),
        "uri": info.uri,
        "etag": info.etag or None,
        "size": None if item.problem else info.size,
        "last_modified": info.last_modified,
        "category": category,
        "error": None,
        "error_message": None,
    }
    if item.problem:
        row |= {"error": item.problem.code.value, "error_message": str(item.problem)}
    elif category is None:
        row |= {
            "error": ErrorCode.NO_CATEGORY.value,
            "error_message": "the category rule finds no class name for this object",
        }
    return row


def _write(manifest: Manifest, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["image_id"] = row["image_id"].hex()
    table = pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    uri = f"{manifest.folder}/part-{len(manifest.files):05d}.parquet"
    write_object(uri, sink.getvalue().to_pybytes())
    manifest.files.append(uri)
    manifest.pending += len(rows)
    manifest.pending_bytes += sum(row["size"] or 0 for row in rows)
