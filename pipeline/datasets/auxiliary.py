"""Auxiliary data: several labelled data sets as one table of what to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.inputs.lists import LIST_SUFFIXES

from ..schema import LABELLED_SCHEMA
from ..storage import absolute
from .labelled import as_table, read_rows
from .listing import DatasetError, Row
from .sampling import hold_out, parse_mosaic_rates

AUXILIARY_SCHEMA = pa.schema(
    [
        *LABELLED_SCHEMA,
        pa.field("dataset", pa.string(), metadata={"doc": "name of the data set"}),
        pa.field("mosaic_rate", pa.float64(), metadata={"doc": "probability of a mosaic"}),
        pa.field("held_out", pa.bool_(), metadata={"doc": "not trained on, but measured"}),
    ]
)


@dataclass(frozen=True)
class Auxiliary:
    """Labelled images to train on, and what else their data sets hold."""

    rows: pa.Table
    """``AUXILIARY_SCHEMA``, in the order of the data sets, then by uri."""
    others: pa.Table
    """Images of the splits that were not asked for: ``LABELLED_SCHEMA`` and ``dataset``."""
    sound_masks: Mapping[str, tuple[str, ...]]
    """URIs of the masks that some good images have; they are not used."""


def read_auxiliary(
    data: Sequence[str],
    layout: str = "auto",
    *,
    split: str | None = "test",
    mosaic_rates: Sequence[str] = (),
    held_out: float = 0.0,
    seed: int = 0,
) -> Auxiliary:
    """Read data sets to train on.

    Args:
        data: folders or lists, each as "NAME=URI" or a URI, whose last part is then the name.
        layout, split: as in ``read_dataset``.
        mosaic_rates: as in ``parse_mosaic_rates``.
        held_out: share of each data set's images of each class and label to keep for selection.
        seed: of the held-out part.

    Raises:
        DatasetError: as ``read_dataset``; two data sets of one name; a wrong mosaic rate; nothing
            left to hold out.
        StorageError: a data set can't be read.
    """
    named = [split_name(text) for text in data]
    names = [name for name, _ in named]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(f"two data sets are called {', '.join(repeated)}; write NAME=URI")
    try:
        rates = parse_mosaic_rates(mosaic_rates, names)
    except ValueError as error:
        raise DatasetError(str(error)) from None
    sound_masks: dict[str, tuple[str, ...]] = {}
    tables, others = [], []
    for name, uri in named:
        rows = read_rows(uri, layout, split)
        asked = [row for row in rows if split in (None, row.split)]
        rates_column = pa.array([rates[name]] * len(asked), pa.float64())
        tables.append(_named(asked, name).append_column("mosaic_rate", rates_column))
        others.append(_named([row for row in rows if split not in (None, row.split)], name))
        sound_masks |= {row.uri: row.sound_masks for row in asked if row.sound_masks}
    table = pa.concat_tables(tables)
    columns = (table[c].to_pylist() for c in ("dataset", "category", "label"))
    groups = [(d, c, str(label)) for d, c, label in zip(*columns, strict=True)]
    chosen = hold_out(groups, table["uri"].to_pylist(), held_out, seed)
    if held_out and not chosen.any():
        raise DatasetError(
            f"{len(table)} images are too few to hold out {held_out:g} of them; give more, or "
            "hold out none"
        )
    rows = table.append_column("held_out", pa.array(chosen)).cast(AUXILIARY_SCHEMA)
    return Auxiliary(rows, pa.concat_tables(others), sound_masks)


def _named(rows: list[Row], name: str) -> pa.Table:
    return as_table(rows).append_column("dataset", pa.array([name] * len(rows), pa.string()))


def split_name(data: str) -> tuple[str, str]:
    """Name and URI of "NAME=URI", or of a URI, which is named by its last part."""
    name, separator, uri = data.partition("=")
    if separator and name and uri and "/" not in name:
        return name, uri
    last = absolute(data).rsplit("/", 1)[-1]
    for suffix in LIST_SUFFIXES:
        last = last.removesuffix(suffix)
    return last, data
