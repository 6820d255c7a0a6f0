"""Labelled data sets → one table of images, masks, labels, categories and splits."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import pyarrow as pa

from pipeline.inputs.lists import is_list
from pipeline.inputs.shards import read_named

from ..schema import LABELLED_SCHEMA
from ..storage import LISTING_THREADS, absolute
from .folders import read_folders, word
from .layouts import FOLDER_LAYOUTS, GOOD, Layout, Masks
from .listing import DatasetError, Listing, Row
from .masks import has_defect
from .tables import (
    HEADCT_LABELS,
    META_FILE,
    check_dagm_masks,
    read_headct,
    read_list,
    read_meta,
    read_visa_split,
)

_EXPECTS = {
    "meta": "meta.json, which names the images, as AdaCLIP's authors write it",
    "headct": "head_ct/<number>.png and labels.csv (id, hemorrhage)",
    **{name: layout.expects for name, layout in FOLDER_LAYOUTS.items()},
    "list": "a .csv or .parquet file with the columns uri and label, and if wanted mask_uri, "
    "category and split",
}
LAYOUTS = tuple(_EXPECTS)
"""Names that ``read_dataset`` takes besides "auto"."""


def read_dataset(uri: str, layout: str = "auto", *, split: str | None = "test") -> pa.Table:
    """Read a labelled data set's files into one table.

    Every file is found in one listing, so that a folder in object storage costs no request per
    image; no image is opened (KolektorSDD's masks are, since they alone say what is abnormal).
    Images that are left out are counted in a warning of the log.

    "auto" takes a ``.csv`` or ``.parquet`` file for a list and a folder with a ``meta.json`` for
    the layout of AdaCLIP's authors. Otherwise the folder's names must fit exactly one layout of
    ``FOLDER_LAYOUTS``, or else the generic "folder".

    Args:
        uri: folder of the data set, or a list of images (.csv or .parquet).
        layout: one of ``LAYOUTS``, or "auto".
        split: "train", "test" or None for both. Data sets without a split are all "test".

    Returns:
        Rows of ``LABELLED_SCHEMA``, sorted by uri.

    Raises:
        DatasetError: unknown layout, no images, a missing mask, an image named twice, folders
            that contradict each other, a list or meta.json that can't be understood.
        StorageError: the folder or a file can't be read.
    """
    return as_table([row for row in read_rows(uri, layout, split) if split in (None, row.split)])


def read_rows(uri: str, layout: str = "auto", split: str | None = None) -> list[Row]:
    """The rows of all splits, sorted by uri, of which the given one has some.

    Arguments and errors are those of ``read_dataset``.
    """
    if layout not in ("auto", *LAYOUTS):
        raise DatasetError(f"unknown layout {layout!r}; there are: auto, {', '.join(LAYOUTS)}")
    if split not in ("train", "test", None):
        raise DatasetError(f"unknown split {split!r}; there are: train, test")
    uri = absolute(uri)
    if layout == "list" or (layout == "auto" and is_list(uri)):
        rows = read_list(uri)
    else:
        listing = Listing.of(uri)
        rows = _READERS[_recognise(listing) if layout == "auto" else layout](listing)
    rows = sorted(_united(rows), key=lambda row: row.uri)
    for row, following in pairwise(rows):
        if row.uri == following.uri:
            raise DatasetError(f"{uri}: {row.uri} occurs twice; leave one of the two out")
    if not any(split in (None, row.split) for row in rows):
        there = ", ".join(sorted({row.split for row in rows})) or "none"
        raise DatasetError(f"{uri}: no image of the split {split!r} (splits with images: {there})")
    return rows


def as_table(rows: list[Row]) -> pa.Table:
    """Rows of ``LABELLED_SCHEMA``."""
    return pa.Table.from_pylist([row.as_dict() for row in rows], schema=LABELLED_SCHEMA)


def _united(rows: list[Row]) -> list[Row]:
    """Rows that give one abnormal image several masks as one row, with all of them."""
    united: dict[tuple[object, ...], Row] = {}
    for row in rows:
        key = (row.uri, row.label, row.category, row.split)
        before = united.get(key)
        if before is None:
            united[key] = row
        elif row.masks and before.masks and not set(row.masks) & set(before.masks):
            united[key] = row._replace(masks=before.masks + row.masks)
        else:
            united[(*key, len(united))] = row
    return list(united.values())


def _recognise(listing: Listing) -> str:
    """The name of the one layout that fits.

    Raises:
        DatasetError: none or several do.
    """
    if META_FILE in listing.files:
        return "meta"
    fitting: dict[Layout, str] = {}  # an alias counts once
    for name, layout in FOLDER_LAYOUTS.items():
        if name != "folder" and _fits(layout, listing):
            fitting.setdefault(layout, name)
    names = list(fitting.values())
    if HEADCT_LABELS in listing.files and any("/head_ct/" in path for path in listing.images):
        names.append("headct")
    if not names and _fits(FOLDER_LAYOUTS["folder"], listing):
        names = ["folder"]
    if len(names) == 1:
        return names[0]
    if names:
        raise DatasetError(
            f"{listing.root} fits several layouts: {', '.join(names)}; name the one that it is"
        )
    names_by_text: dict[str, list[str]] = {}  # aliases on one line
    for name, text in _EXPECTS.items():
        names_by_text.setdefault(text, []).append(name)
    lines = [f"  {', '.join(names)}: {text}" for text, names in names_by_text.items()]
    raise DatasetError(
        f"{listing.root} fits no known layout. Give the folder that itself holds what one of them "
        "expects, or name the layout:\n" + "\n".join(lines)
    )


def _fits(layout: Layout, listing: Listing) -> bool:
    return any(map(layout.pattern.fullmatch, listing.images)) and any(
        re.search(layout.sign, path) for path in listing.images
    )


def _read_pattern(layout: Layout, listing: Listing) -> list[Row]:
    """Rows of all images whose path the layout's pattern matches."""
    rows, pattern, used = [], layout.pattern, set[str]()
    for path, uri in listing.images.items():
        if match := pattern.fullmatch(path):
            groups = match.groupdict()
            good = word(groups.get("defect", "")) in GOOD
            mask = None if good else _mask(layout, listing, groups, uri)
            used |= {uri, *_masks(layout, listing, groups)}
            if layout.masks is Masks.DECIDE_BY_EXISTENCE:
                good = mask is None
            is_test = groups.get("split", "test").lower() == "test"
            category = layout.category or groups["category"]
            masks = (mask,) if mask else ()
            rows.append(Row(uri, masks, int(not good), category, "test" if is_test else "train"))
    if not rows:
        raise DatasetError(f"{listing.root}: no image there; expected {layout.expects}")
    listing.tell_left_out(used, f"the layout is {layout.expects}")
    return _without_black_masks(rows) if layout.masks is Masks.DECIDE_BY_CONTENT else rows


def _masks(layout: Layout, listing: Listing, groups: dict[str, str]) -> list[str]:
    stems = (path.format(**groups) for path in layout.mask_paths)
    return [mask for mask in map(listing.find, stems) if mask]


def _mask(layout: Layout, listing: Listing, groups: dict[str, str], uri: str) -> str | None:
    mask = next(iter(_masks(layout, listing, groups)), None)
    if mask is None and layout.masks in (Masks.REQUIRED, Masks.DECIDE_BY_CONTENT):
        stems = [path.format(**groups) for path in layout.mask_paths]
        looked_for = " or ".join(f"{stem.partition('/')[2]}.*" for stem in stems)
        raise DatasetError(
            f"{uri} has no mask; looked in {listing.root} for {looked_for}. Fetch it, or give a "
            "list (.csv) of the images, where masks are optional"
        )
    return mask


def _without_black_masks(rows: list[Row]) -> list[Row]:
    """Rows with the label that their mask's pixels give."""

    def relabelled(row: Row) -> Row:
        (mask,) = row.masks
        try:
            if has_defect(read_named(mask)):
                return row
        except DatasetError as error:
            raise DatasetError(f"{mask}: {error}") from error
        return row._replace(masks=(), label=0)

    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        return list(pool.map(relabelled, rows))


def _read_visa(listing: Listing) -> list[Row]:
    return read_visa_split(listing) or _read_pattern(FOLDER_LAYOUTS["visa"], listing)


def _read_dagm(listing: Listing) -> list[Row]:
    check_dagm_masks(listing)
    return _read_pattern(FOLDER_LAYOUTS["dagm"], listing)


_READERS: dict[str, Callable[[Listing], list[Row]]] = {
    **{name: partial(_read_pattern, layout) for name, layout in FOLDER_LAYOUTS.items()},
    **{
        name: partial(read_folders, layout)
        for name, layout in FOLDER_LAYOUTS.items()
        if layout in (FOLDER_LAYOUTS["mvtec"], FOLDER_LAYOUTS["folder"])
    },
    "meta": read_meta,
    "headct": read_headct,
    "visa": _read_visa,
    "dagm": _read_dagm,
}
