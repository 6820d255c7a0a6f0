"""Data sets whose labels stand in a file: meta.json, VisA's and HeadCT's CSV, own lists."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..schema import ErrorCode
from ..storage import StorageError, absolute, list_objects, read_object
from .listing import DatasetError, Listing, Row, Split

META_FILE = "meta.json"
VISA_SPLIT = "split_csv/1cls.csv"  # all good images of training and testing, defects in testing
HEADCT_LABELS = "labels.csv"
LIST_SUFFIXES = (".csv", ".parquet")
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
        entries = [
            (
                entry["img_path"],
                entry["mask_path"],
                _LABELS[str(entry["anomaly"])],
                entry["cls_name"],
                _SPLITS[split],
            )
            for split, classes in content.items()
            for images in classes.values()
            for entry in images
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{uri} can't be understood ({type(error).__name__}: {error}); expected "
            '{"train": {class: [...]}, "test": {class: [{"img_path", "mask_path", "cls_name", '
            '"anomaly": 0 or 1}, ...]}}'
        ) from error
    return [
        Row(
            listing.uri(image, named_by=uri),
            listing.uri(mask, named_by=uri) if mask and label else None,
            label,
            category,
            split,
        )
        for image, mask, label, category, split in entries
    ]


def read_visa_split(listing: Listing) -> list[Row]:
    """VisA's rows from its CSV (object, split, label, image, mask); none if it has no CSV.

    Raises:
        DatasetError: other columns or values, or a file named there is missing.
        StorageError: the file can't be read.
    """
    if VISA_SPLIT not in listing.files:
        return []
    uri = listing.files[VISA_SPLIT]
    columns = {"uri": "image", "mask_uri": "mask", "category": "object"}
    rows = _rows(uri, columns, listing.root)
    for row in rows:
        if row.label and row.mask_uri is None:
            raise DatasetError(f"{uri} names no mask for the abnormal image {row.uri}")
        for file in filter(None, (row.uri, row.mask_uri)):
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
        values = [value.strip() for value in record.values()]
        try:
            labels[int(values[0])] = _LABELS[values[1]]
        except (ValueError, KeyError, IndexError) as error:
            raise DatasetError(f"{uri}, row {line}: expected a number and 0 or 1") from error
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
    return [Row(uri, None, labels[number], "headct", "test") for number, uri in numbered.items()]


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
    anomaly will do), and if wanted ``mask_uri`` (empty for none; not looked at if the label is 0),
    ``category`` ("object" if missing) and ``split`` ("test" if missing). URIs without a scheme are
    relative to the list's folder. Files in that folder are checked by one listing; whether those
    elsewhere exist shows when they are read.

    Raises:
        DatasetError: missing columns, other values, or a file named there is missing.
        StorageError: the list can't be read.
    """
    if not uri.lower().endswith(LIST_SUFFIXES):
        raise DatasetError(f"{uri} is no list; its name should end in .csv or .parquet")
    folder = uri.rpartition("/")[0]
    rows = _rows(uri, {name: name for name in ("uri", "mask_uri", "category")}, folder)
    named = [file for row in rows for file in (row.uri, row.mask_uri) if file]
    below = [file for file in named if file.startswith(f"{folder}/")]
    if below:
        # The folder that all share. Not commonpath, which would drop the "//" that keys may hold.
        shared = os.path.commonprefix(below).rpartition("/")[0]  # noqa: RUF071
        there = _files_below(shared)
        if missing := next((file for file in below if file not in there), None):
            raise DatasetError(f"{uri} names {missing}, which does not exist; correct the list")
    return rows


def _files_below(folder: str) -> set[str]:
    try:
        return {info.uri for page in list_objects(folder) for info in page}
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        return set()


def _rows(uri: str, columns: dict[str, str], folder: str) -> list[Row]:
    """The list's rows; ``columns`` says what it calls uri, mask_uri and category."""
    rows = []
    for line, record in _records(uri):
        if missing := {columns["uri"], "label"} - record.keys():
            raise DatasetError(
                f"{uri} has no column {sorted(missing)[0]!r} (it has: {', '.join(record)})"
            )
        image = record[columns["uri"]]
        label = _LABELS.get(record["label"].lower())
        split = _SPLITS.get(record.get("split", "").lower())
        if not image or label is None or split is None:
            raise DatasetError(
                f"{uri}, row {line}: expected an image's URI, a label 0 or 1, and as split train "
                f"or test; found {record}"
            )
        mask = record.get(columns["mask_uri"], "") if label else ""
        rows.append(
            Row(
                _resolved(image, folder),
                _resolved(mask, folder) if mask else None,
                label,
                record.get(columns["category"], "") or DEFAULT_CATEGORY,
                split,
            )
        )
    if not rows:
        raise DatasetError(f"{uri} has no rows")
    return rows


def _records(uri: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Number, from 1, and values of the rows of a .csv or .parquet file."""
    data = read_object(uri)[0]
    try:
        records: list[dict[str, Any]]
        if uri.lower().endswith(".parquet"):
            records = pq.read_table(pa.BufferReader(data)).to_pylist()
        else:  # utf-8-sig: Excel puts a byte order mark before the first column's name
            text = io.StringIO(data.decode("utf-8-sig"), newline="")
            records = list(csv.DictReader(text, restval="", strict=True))
    except (ValueError, OSError, csv.Error) as error:
        raise DatasetError(f"{uri} can't be read as a table: {error}") from error
    for number, record in enumerate(records, 1):
        yield (
            number,
            {
                str(name).strip(): "" if value is None else str(value).strip()
                for name, value in record.items()
            },
        )


def _resolved(file: str, folder: str) -> str:
    return absolute(file if "://" in file or file.startswith("/") else f"{folder}/{file}")
