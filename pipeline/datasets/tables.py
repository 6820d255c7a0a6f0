"""Data sets whose labels stand in a file: meta.json, VisA's and HeadCT's CSV, own lists."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.inputs.lists import as_text, is_list, resolved, spelled, tell_lookalikes
from pipeline.inputs.shards import shards_of

from ..schema import ErrorCode
from ..storage import StorageError, list_objects, read_object
from .listing import DatasetError, Listing, Row, Split

META_FILE = "meta.json"
VISA_SPLIT = "split_csv/1cls.csv"  # all good images of training and testing, defects in testing
HEADCT_LABELS = "labels.csv"
DEFAULT_CATEGORY = "object"  # as for images that are scored without a folder that names the class
_GOOD = ("0", "false", "good", "normal", "ok")
_ABNORMAL = ("1", "true", "bad", "defect", "abnormal", "anomaly")
_LABELS = dict.fromkeys(_GOOD, 0) | dict.fromkeys(_ABNORMAL, 1)
_SPLITS: dict[str, Split] = {"train": "train", "test": "test", "": "test"}


def read_meta(listing: Listing) -> list[Row]:
    """The layout of AdaCLIP's authors (github.com/caoyunkang/AdaCLIP, data_preprocess).

    ``meta.json`` is ``{"train": {class: [entry, ...]}, "test": {class: [entry, ...]}}`` with
    entries of ``img_path``, ``mask_path`` ("" for none), ``cls_name``, ``specie_name`` and
    ``anomaly`` (0 or 1), whose paths start at the root.

    Raises:
        DatasetError: other contents, or a file named there is missing.
        StorageError: the file can't be read.
    """
    uri = listing.uri(META_FILE, "the layout meta")
    try:
        content = json.loads(read_object(uri)[0])
        return [
            _meta_row(entry, _SPLITS[split], listing, uri)
            for split, classes in content.items()
            for images in classes.values()
            for entry in images
        ]
    except DatasetError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{uri} can't be understood ({type(error).__name__}: {error}); expected "
            '{"train": {class: [...]}, "test": {class: [{"img_path", "mask_path", "cls_name", '
            '"anomaly": 0 or 1}, ...]}}'
        ) from error


def _meta_row(entry: dict[str, Any], split: Split, listing: Listing, uri: str) -> Row:
    """One entry; ``mask_path`` may be a list, of which the defect is the union."""
    image, masks, category = entry["img_path"], entry["mask_path"], entry["cls_name"]
    masks = masks if isinstance(masks, list) else [masks] if masks else []
    label = _label(str(entry["anomaly"]))
    texts = [("img_path", image), ("cls_name", category), *(("mask_path", mask) for mask in masks)]
    for name, value in texts:
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name} is {value!r} in the entry of {image!r}, and must be text")
    if label is None:
        raise ValueError(f"anomaly is {entry['anomaly']!r} in the entry of {image!r}")
    found = [listing.uri(mask, named_by=uri) for mask in masks] if label else []
    unused = () if label else (listing.files[mask] for mask in masks if mask in listing.files)
    image_uri = listing.uri(image, named_by=uri)
    return Row(image_uri, tuple(found), label, category, split, tuple(unused))


def read_visa_split(listing: Listing) -> list[Row]:
    """VisA's rows from its CSV (object, split, label, image, mask); none if it has no CSV.

    Raises:
        DatasetError: other columns or values, or a file named there is missing.
        StorageError: the file can't be read.
    """
    if VISA_SPLIT not in listing.files:
        return []
    uri = listing.files[VISA_SPLIT]
    rows = _rows(uri, _VISA_COLUMNS, f"{listing.root}/{VISA_SPLIT.rpartition('/')[2]}")
    for row in rows:
        if row.label and not row.masks:
            raise DatasetError(f"{uri} names no mask for the abnormal image {row.uri}")
        for file in (row.uri, *row.masks):
            listing.uri(file.removeprefix(f"{listing.root}/"), uri)
    return rows


def read_headct(listing: Listing) -> list[Row]:
    """HeadCT as its owner publishes it: head_ct/<number>.png and labels.csv (id, hemorrhage).

    Raises:
        DatasetError: an image without a label or a label without an image.
        StorageError: the labels can't be read.
    """
    uri = listing.uri(HEADCT_LABELS, "the layout headct")
    labels = {}
    for line, record in _records(uri):
        values = [*map(_text, record.values()), "", ""]
        label = _label(values[1])
        if not values[0].isdecimal() or label is None:
            raise DatasetError(f"{uri}, row {line}: expected a number and 0 or 1")
        labels[int(values[0])] = label
    numbered = {
        int(match[1]): image
        for path, image in listing.images.items()
        if (match := re.fullmatch(r"[^/]+/(?:head_ct/)*(\d+)\.png", path))
    }
    if odd := sorted(labels.keys() ^ numbered.keys()):
        number = odd[0]
        what = "no image" if number in labels else "no label"
        raise DatasetError(
            f"{listing.root}: {what} for number {number}; {HEADCT_LABELS} and head_ct/*.png must "
            "name the same images"
        )
    return [Row(uri, (), labels[number], "headct", "test") for number, uri in numbered.items()]


def check_dagm_masks(listing: Listing) -> None:
    """Check that DAGM's masks are complete, since an image without one counts as good.

    Raises:
        DatasetError: a ``Label/Labels.txt`` names a mask that isn't there.
        StorageError: a Labels.txt can't be read.
    """
    for key, uri in listing.files.items():
        if key.lower().endswith("/label/labels.txt"):
            folder = key.rpartition("/")[0]
            text = read_object(uri)[0].decode("utf-8", "replace")
            for name in re.findall(r"\S+_label\.png", text, re.IGNORECASE):
                listing.uri(f"{folder}/{name}", uri)


def read_list(uri: str) -> list[Row]:
    """A CSV or Parquet list of images.

    Columns: ``uri`` and ``label`` (0 or 1; false, good, normal, ok or true, bad, defect, abnormal,
    anomaly will do), and if wanted ``mask_uri`` (empty for none; not looked at if the label is 0;
    several in a Parquet cell, or in rows of their own), ``category`` ("object" if missing) and
    ``split`` ("test" if missing). URIs without a scheme are relative to the list's folder. Files
    in that folder are checked by one listing; whether those elsewhere exist shows when they are
    read.

    Raises:
        DatasetError: missing columns, other values, or a file named there is missing.
        StorageError: the list can't be read.
    """
    if not is_list(uri):
        raise DatasetError(f"{uri} is no list; its name should end in .csv or .parquet")
    folder = uri.rpartition("/")[0]
    rows = _rows(uri, _LIST_COLUMNS, uri)
    below = [
        file for row in rows for file in (row.uri, *row.masks) if file.startswith(f"{folder}/")
    ]
    if below:
        # The folder that all share. Not commonpath, which would drop the "//" that keys may hold.
        outermost = [next(iter(shards_of(file)), file) for file in below]
        shared = os.path.commonprefix(outermost).rpartition("/")[0]  # noqa: RUF071
        there = _files_below(shared)
        absent = (file for file in below if there.isdisjoint([file, *shards_of(file)]))
        if missing := next(absent, None):
            raise DatasetError(f"{uri} names {missing}, which does not exist; correct the list")
    return rows


def _files_below(folder: str) -> set[str]:
    try:
        return {info.uri for page in list_objects(folder) for info in page}
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        return set()


class _Columns(NamedTuple):
    """What a table calls its columns, beside ``label`` and ``split``."""

    uri: str
    mask: str
    category: str


_LIST_COLUMNS = _Columns("uri", "mask_uri", "category")
_VISA_COLUMNS = _Columns("image", "mask", "object")


def _rows(uri: str, columns: _Columns, base: str) -> list[Row]:
    """The list's rows; names in it are relative to ``base``."""
    rows = []
    for line, record in _records(uri):
        if line == 1:
            if missing := {columns.uri, "label"} - record.keys():
                raise DatasetError(
                    f"{uri} has no column {sorted(missing)[0]!r} (it has: {', '.join(record)})"
                )
            tell_lookalikes(uri, record, (columns.mask, columns.category, "split"))
        image = _text(record[columns.uri])
        label = _label(_text(record["label"]))
        split = _SPLITS.get(_text(record.get("split")).lower())
        if not image or label is None or split is None:
            raise DatasetError(
                f"{uri}, row {line}: expected an image's URI, a label 0 or 1, and as split train "
                f"or test; found {record}"
            )
        masks = record.get(columns.mask)
        named = filter(None, map(_text, masks if isinstance(masks, list) else [masks]))
        category = _text(record.get(columns.category)) or DEFAULT_CATEGORY
        found = tuple(resolved(mask, base) for mask in named)
        used, unused = (found, ()) if label else ((), found)
        rows.append(Row(resolved(image, base), used, label, category, split, unused))
    if not rows:
        raise DatasetError(f"{uri} has no rows")
    return rows


def _records(uri: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number, from 1, and values of the rows of a .csv or .parquet file, by the columns' names."""
    data = read_object(uri)[0]
    try:
        if uri.lower().endswith(".parquet"):
            table = pq.read_table(pa.BufferReader(data))
            names, lines = table.column_names, _lines(table, uri)
        else:  # utf-8-sig: Excel puts a byte order mark before the first column's name
            text = io.StringIO(data.decode("utf-8-sig"), newline="")
            names, *lines = [line for line in csv.reader(text, strict=True) if line] or [[]]
        names = list(spelled(names, uri))
    except (ValueError, OSError, csv.Error) as error:
        raise DatasetError(f"{uri} can't be read as a table: {error}") from error
    for number, line in enumerate(lines, 1):
        if len(line) != len(names):
            raise DatasetError(
                f"{uri}, row {number}: expected {len(names)} values, found {len(line)}; put names "
                "with commas into quotes"
            )
        yield number, dict(zip(names, line, strict=True))


def _lines(table: pa.Table, uri: str) -> list[list[Any]]:
    """The rows of a table, bytes as text."""
    columns = [
        as_text(column.combine_chunks(), name, uri) if pa.types.is_binary(column.type) else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    return [list(row) for row in zip(*(column.to_pylist() for column in columns), strict=True)]


def _text(value: Any) -> str:
    """A cell without blanks around it; 7.0, as pandas keeps whole numbers with gaps, is "7"."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _label(text: str) -> int | None:
    """0 or 1, also of "1.0", or None for what is no label."""
    if text.lower() in _LABELS:
        return _LABELS[text.lower()]
    try:
        return {0.0: 0, 1.0: 1}.get(float(text))
    except ValueError:
        return None
