"""Bring a table up to date with an output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.config import IcebergPlace, Place
from pipeline.errors import CannotRunError
from pipeline.output.layout import scores_of
from pipeline.output.snapshot import read_scores
from pipeline.storage import absolute

from .errors import PublishingError, require_packages, told
from .merging import Merge, merge
from .published import remember, unpublished
from .table import Change, Table


@dataclass(frozen=True)
class Publication:
    """What was done."""

    place: Place
    files: int = 0
    """Score files that were read."""
    added: int = 0
    """Rows that came to the table."""
    removed: int = 0
    """Rows that went: they don't count any more, or came again with other maps."""

    def line(self) -> str:
        """What a person is told."""
        return (
            f"{self.place.uri}: {self.added:,} rows came and {self.removed:,} went, by "
            f"{self.files:,} score files that are new"
        )


def publish(output: str, place: Place) -> Publication:
    """Bring a table up to date with an output: wholly or, if this raises or dies, not at all.

    The table has of each image, model and category the row that counts (``rows_that_hold``). What
    was published before is not read again, but for the columns that tell which of its rows a new
    one supersedes, and for images of which only their history can tell. No lock is needed: the
    output is not written to, and of two publications to a table at once one fails.

    Args:
        output: the output's folder.
        place: where the table is; made if it is not there.

    Raises:
        CannotRunError: the table's package is not installed, or the table is none of this output's.
        PublishingError: the table can't be read or written.
        StorageError, OSError, pa.ArrowException: the output can't be read.
    """
    require_packages(place)
    output = absolute(output)
    return read_scores(scores_of(output), lambda files: _publish(output, place, files))


def _publish(output: str, place: Place, files: list[str]) -> Publication:
    folder = scores_of(output)
    with told(place):
        table = _open(place)
        published = table.published
    if table.exists and table.output != output:
        whose = f"the scores of {table.output}" if table.output else "something else than scores"
        raise CannotRunError(
            f"{place.uri} holds {whose}; give every output a table of its own, which this makes"
        )
    new = unpublished(folder, files, published)

    def rows_of(uris: pa.Array) -> list[pa.Table]:
        with told(place):
            return list(table.rows_of(uris))

    found = merge(folder, files, new, rows_of)
    if not (found.added or len(found.superseded)):
        return Publication(place, files=len(new))
    _commit(table, place, output, remember(folder, files), found)
    return Publication(place, len(new), found.added, len(found.superseded))


def _open(place: Place) -> Table:
    # Not above: each comes with an extra of its own.
    if isinstance(place, IcebergPlace):
        from .iceberg import Iceberg

        return Iceberg(place)
    from .delta import DeltaLake

    return DeltaLake(place)


def _commit(table: Table, place: Place, output: str, published: str, found: Merge) -> None:
    failures: list[Exception] = []

    def rows() -> Iterator[pa.Table]:
        try:
            yield from found.rows()
        except Exception as error:
            failures.append(error)
            raise

    change = Change(output=output, published=published, rows=rows, superseded=found.superseded)
    try:
        with told(place):
            table.commit(change)
    except PublishingError:
        if failures:  # the table's package has put what is the output's in words of its own
            raise failures[0] from None
        raise
