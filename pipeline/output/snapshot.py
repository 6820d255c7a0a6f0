"""Which score files count together: what readers see while a compaction replaces some of them.

Object stores rename nothing, so a compaction can't swap files at once. It keeps a journal in one
object instead, ``compaction.json`` beside the table, which is written whole: while it says
"pending", the replacement does not count; from "committed" on, the replaced files don't. Inside the
table, where versions before 0.2 kept it, Polars and others take it for a file of rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.schema import ErrorCode
from pipeline.storage import (
    ObjectInfo,
    StorageError,
    absolute,
    arrow_filesystem,
    delete_objects,
    list_objects,
    read_object,
    stat,
    write_object,
)

from .layout import runs_of, scores_of

JOURNAL = "compaction.json"
FORMER = "_compaction.json"  # inside the score folder, in outputs of older versions
ATTEMPTS = 20  # a compaction that commits a file a second hits a read of seconds once or twice

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Journal:
    """The newest step of compaction; files are named relative to the score folder."""

    generation: int = 0
    """Raised by every step, so that two equal journals mean that nothing happened in between."""
    state: Literal["pending", "committed"] = "committed"
    """Which of the two lists does not count: pending, the replacement; committed, the replaced."""
    replaced: tuple[str, ...] = ()
    """Score files that a compaction merges into one."""
    replacement: tuple[str, ...] = ()
    """The file that they become."""

    @property
    def hidden(self) -> tuple[str, ...]:
        """Files that don't count although they may be there."""
        return self.replacement if self.state == "pending" else self.replaced


def read_journal(folder: str) -> Journal:
    """The journal of a score folder; one that was never compacted has an empty journal.

    Raises:
        StorageError: it can't be read.
        ValueError: it is not a journal.
    """
    for uri in _journals(absolute(folder)):
        try:
            data, _ = read_object(uri)
            break
        except StorageError as error:
            if error.code != ErrorCode.NOT_FOUND:
                raise
    else:
        return Journal()
    try:
        fields = json.loads(data)
        names = {name: tuple(fields[name]) for name in ("replaced", "replacement")}
        return Journal(**(fields | names))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{uri} is damaged: {error}") from error


def write_journal(folder: str, journal: Journal) -> None:
    """Replace the journal as a whole: the moment at which a step of compaction counts."""
    uri, former = _journals(absolute(folder))
    write_object(uri, json.dumps(asdict(journal)).encode())
    try:
        stat(former)
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        return
    delete_objects([former])


def _journals(folder: str) -> tuple[str, str]:
    """Where the journal of a score folder is, and where older versions kept it."""
    return f"{folder.rpartition('/')[0]}/{JOURNAL}", f"{folder}/{FORMER}"


def score_files(folder: str) -> list[str]:
    """URIs of the score files that count together, sorted; none if the folder does not exist.

    Raises:
        StorageError: the folder can't be listed, or never held still.
    """
    return [info.uri for info in score_objects(folder)]


def score_objects(folder: str) -> list[ObjectInfo]:
    """``score_files`` with their sizes and times."""
    return _files(absolute(folder))[0]


def all_score_files(folder: str) -> dict[str, ObjectInfo]:
    """Score files by URI, also those that don't count at the moment.

    What else lies there, such as folder markers of S3 consoles, is not the table's.

    Raises:
        StorageError: the folder can't be listed.
    """
    return {info.uri: info for page in _pages(folder) for info in page}


def holds_scores(folder: str) -> bool:
    """Whether there is any score file; the listing ends at the first.

    Raises:
        StorageError: the folder can't be listed.
    """
    return any(page for page in _pages(absolute(folder)))


def is_output(output: str) -> bool:
    """Whether a run ever wrote to a folder: it has scores, or says of itself that it ran.

    Raises:
        StorageError: the folder can't be listed.
    """
    return any(_holds_objects(folder) for folder in (scores_of(output), runs_of(output)))


def read_scores(
    folder: str, read: Callable[[list[str]], T], partitions: Sequence[str] | None = None
) -> T:
    """The result of ``read`` on the score files that count together.

    A compaction may go on meanwhile: ``read`` is called again, with other files, if it removed one
    of them before it was read. What ``read`` gathers must therefore begin inside it.

    Args:
        folder: the score folder.
        read: receives the files' URIs, sorted.
        partitions: list only these folders below it, such as "scan_date=2026-01-01".

    Raises:
        StorageError: the folder can't be listed, or never held still.
        Exception: what ``read`` raises, unless a compaction is the reason.
    """
    folder = absolute(folder)
    for _ in range(ATTEMPTS):
        files, journal = _files(folder, partitions)
        try:
            return read([info.uri for info in files])
        except (OSError, StorageError):
            if read_journal(folder) == journal:
                raise
    raise _restless(folder)


def score_dataset(
    folder: str, files: list[str], schema: pa.Schema, *, whole: bool = False
) -> ds.Dataset:
    """Score files as a dataset; the partition is a column if the schema has ``scan_date``.

    Args:
        whole: fetch them in one request each (``storage.arrow_filesystem``).

    Raises:
        FileNotFoundError: there is none.
    """
    if not files:
        raise FileNotFoundError(f"{folder} holds no scores; is it below an output?")
    filesystem, base = arrow_filesystem(folder, whole=whole)
    paths = [arrow_filesystem(uri)[1] for uri in files]
    options: dict[str, Any] = {"partitioning": "hive", "partition_base_dir": base}
    return ds.dataset(paths, schema=schema, filesystem=filesystem, format="parquet", **options)


def _pages(folder: str) -> Iterator[list[ObjectInfo]]:
    """Score files as they are listed; nothing if the folder does not exist."""
    try:
        for page in list_objects(folder):
            yield [info for info in page if info.uri.endswith(".parquet")]
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise


def _holds_objects(folder: str) -> bool:
    try:
        return any(page for page in list_objects(folder))
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        return False


def _files(
    folder: str, partitions: Sequence[str] | None = None
) -> tuple[list[ObjectInfo], Journal]:
    below = [folder] if partitions is None else [f"{folder}/{name}" for name in partitions]
    journal = read_journal(folder)
    for _ in range(ATTEMPTS):
        found = {uri: info for each in below for uri, info in all_score_files(each).items()}
        before, journal = journal, read_journal(folder)
        if before == journal:
            hidden = {f"{folder}/{name}" for name in journal.hidden}
            return [found[uri] for uri in sorted(found.keys() - hidden)], journal
        # Else the listing may hold some of the files of before and some of after.
    raise _restless(folder)


def _restless(folder: str) -> StorageError:
    message = f"{folder} changed during each of {ATTEMPTS} attempts to read it; try again later"
    return StorageError(ErrorCode.FETCH_FAILED, message)
