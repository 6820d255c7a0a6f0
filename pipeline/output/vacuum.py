"""Garbage of an output: map shards that no row points to, dead run folders, half-written files.

And what is known of the inputs' shards, once it is old: no list tells which of those are still
there, and a run makes anew what it misses.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.maintain import GRACE, KEEP
from pipeline.schema import ErrorCode
from pipeline.storage import ObjectInfo, StorageError, delete_objects, list_objects

from .compaction import Check, recover
from .layout import MAPS, REPORT, RUNS, SCORES, SHARD_INDEX, run_folder, runs_of, scores_of
from .rows import read_rows
from .snapshot import read_scores

INDEX_FILE = re.compile(r"[0-9a-f]{32}\.parquet")  # nothing else goes from a folder of that name
INCOMPLETE = ".incomplete-"  # what storage.write_object calls a local file until it is whole


@dataclass(frozen=True)
class Garbage:
    """Something that can go."""

    uri: str
    """A file, or a run's folder."""
    reason: str
    files: tuple[str, ...]
    size: int
    """Bytes."""


def find_garbage(
    output: str, *, grace: timedelta = GRACE, keep: timedelta = KEEP, now: datetime | None = None
) -> list[Garbage]:
    """What nothing refers to and nobody writes any more. Changes nothing.

    Args:
        output: absolute URI of the output.
        grace: younger files stay, whatever they are.
        keep: older run folders go, unless a score row names the run; older indexes of shards go.

    Raises:
        StorageError: the output can't be listed.
        OSError, pa.ArrowException: a score file can't be read, so nothing is known to be garbage.
    """
    now = now or datetime.now(UTC)
    # Listed before the rows are read: a shard that a row comes to point to meanwhile is not missed.
    found = {name: _listed(f"{output}/{name}") for name in (MAPS, RUNS, SCORES, SHARD_INDEX)}
    shards, runs = _referenced(output)
    garbage = [
        Garbage(info.uri, "half-written", (info.uri,), info.size)
        for files in found.values()
        for info in files
        if _name(info).startswith(INCOMPLETE) and _age(info, now) > grace
    ]
    garbage += [
        Garbage(info.uri, "no row points to this map shard", (info.uri,), info.size)
        for info in found[MAPS]
        if info.uri.endswith(".parquet") and info.uri[len(output) + 1 :] not in shards
        if _age(info, now) > grace
    ]
    garbage += [
        Garbage(info.uri, "what a shard held; runs make it anew", (info.uri,), info.size)
        for info in found[SHARD_INDEX]
        if INDEX_FILE.fullmatch(_name(info)) and _age(info, now) > keep
    ]
    folders: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in found[RUNS]:
        run_id, _, below = info.uri[len(runs_of(output)) + 1 :].partition("/")
        if below and not _name(info).startswith(INCOMPLETE):
            folders[run_id].append(info)
    for run_id, files in folders.items():
        age = min(_age(info, now) for info in files)
        reported = any(_name(info) == REPORT for info in files)
        if run_id in runs or age <= (keep if reported else grace):
            continue
        reason = f"a run of {age.days} days ago without a row" if reported else "a run that died"
        size = sum(info.size for info in files)
        uris = tuple(info.uri for info in files)
        garbage.append(Garbage(f"{run_folder(output, run_id)}/", reason, uris, size))
    return sorted(garbage, key=lambda each: each.uri)


def vacuum(
    output: str,
    *,
    grace: timedelta = GRACE,
    keep: timedelta = KEEP,
    now: datetime | None = None,
    check: Check = lambda: None,
) -> list[Garbage]:
    """Delete what ``find_garbage`` finds. The caller holds the output's lock.

    Args:
        check: called before anything is deleted; raises if the lock is lost.

    Raises:
        StorageError: something can't be deleted; the next vacuum goes on.
    """
    recover(output)
    garbage = find_garbage(output, grace=grace, keep=keep, now=now)
    check()
    delete_objects(uri for each in garbage for uri in each.files)
    return garbage


def _referenced(output: str) -> tuple[set[str], set[str]]:
    """Map shards and runs that score rows name."""
    folder = scores_of(output)

    def read(files: list[str]) -> tuple[set[str], set[str]]:
        named: dict[str, set[str]] = {"map_file": set(), "run_id": set()}
        for rows in read_rows(folder, files, named):
            for name, values in named.items():
                values |= _distinct(rows.column(name))
        return named["map_file"], named["run_id"]

    return read_scores(folder, read)


def _distinct(column: pa.Array) -> set[str]:
    return set(pc.drop_null(pc.unique(column.cast(pa.string()))).to_pylist())


def _listed(folder: str) -> list[ObjectInfo]:
    try:
        return [info for page in list_objects(folder) for info in page]
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
        return []


def _name(info: ObjectInfo) -> str:
    return info.uri.rsplit("/", 1)[1]


def _age(info: ObjectInfo, now: datetime) -> timedelta:
    """A file of unknown age counts as new."""
    return now - info.last_modified if info.last_modified else timedelta(0)
