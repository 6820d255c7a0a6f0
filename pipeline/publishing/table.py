"""What a published table is, whichever its format: columns, properties, and one change."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.output.rows import HELD_BY
from pipeline.schema import PARTITION_COLUMN, SCORE_SCHEMA


def _plain(field: pa.Field) -> pa.Field:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    doc = field.metadata[b"doc"].decode()
    return pa.field(field.name, kind, metadata={"doc": doc, "comment": doc})


SCHEMA = pa.schema([_plain(field) for field in [*SCORE_SCHEMA, PARTITION_COLUMN]])
"""Columns of the table: strings instead of dictionaries; documented as both formats do it."""
PARTITION = PARTITION_COLUMN.name
KEYS = pa.schema([SCHEMA.field(name) for name in (*HELD_BY, PARTITION)])
"""What is read of rows that the table has: what decides which counts, and where they lie."""

OUTPUT = "adaclip.output"
"""Property: URI of the output whose rows these are; ``map_file`` is relative to it."""
PUBLISHED = "adaclip.published"
"""Property: which score files' rows are in it (``published``)."""
DESCRIPTION = "Scores of images by adaclip-pipeline: of each image, model and category what counts"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one publication does to a table, all at once."""

    output: str
    """URI of the output."""
    published: str
    """What is published after it."""
    rows: Callable[[], Iterator[pa.Table]]
    """Rows that come to it, in pieces of ``SCHEMA``; can be asked for again."""
    superseded: pa.Table
    """Rows that go: their ``image_id``, of which the table has one each, and ``scan_date``."""
    schema: pa.Schema = SCHEMA
    """Columns of the rows, of which the table may lack some."""


class Table(Protocol):
    """A table as it was when it was opened. Methods raise the package's own exceptions."""

    @property
    def output(self) -> str | None:
        """Which output's rows it holds; None if it is not there or somebody else's."""

    @property
    def exists(self) -> bool:
        """Whether it is there."""

    @property
    def published(self) -> str:
        """What the last change said is published; "" if nothing did."""

    def rows_of(self, uris: pa.Array) -> Iterator[pa.Table]:
        """The rows of images, columns ``KEYS``.

        Only files are read whose statistics leave it open whether they hold one of them.

        Args:
            uris: the images [n], sorted, distinct.
        """

    def commit(self, change: Change) -> None:
        """Make the table if it is not there, and change it: wholly or, if this raises, not at all.

        Raises if anybody else changed it meanwhile in a way that this one depends on.
        """


def may_hold(uris: pa.Array, lowest: str | None, highest: str | None) -> bool:
    """Whether a file whose least and greatest uri are known may hold one of some images.

    Args:
        uris: [n], sorted.
        lowest: not above the least; None is unknown.
        highest: not below the greatest; None is unknown.
    """
    if lowest is None or highest is None:
        return True
    # The list stays in Arrow: as Python's strings, ten million of them would take a gigabyte.
    first = bisect_left(range(len(uris)), lowest, key=lambda i: str(uris[i]))
    return first < len(uris) and str(uris[first]) <= highest


def of_images(rows: pa.Table, uris: pa.Array) -> pa.Table:
    """Those rows whose uri is one of some."""
    return rows.filter(pc.is_in(rows["uri"], value_set=uris))
