"""Few large files instead of many small ones, in partitions that no run writes to any more.

A group of score files of one partition becomes one file. Its steps, each of them one write:

1. new map shards, which nothing points to yet
2. journal "pending": the new score file does not count
3. the new score file, whose rows point into the new shards
4. journal "committed": the new file counts, the old ones don't
5. the old score files are deleted
6. journal empty: a file of such a name that is put back, from a backup say, counts again

Readers that follow the journal (``snapshot``) see the old files or the new one, never both and
never neither. A run that is killed is finished or undone by the next (``recover``). The old map
shards stay for those who hold rows that point to them; ``vacuum`` removes them.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.schema import MAP_SCHEMA, SCORE_SCHEMA
from pipeline.storage import (
    ObjectInfo,
    StorageError,
    arrow_filesystem,
    delete_objects,
    write_object,
)

from . import map_shards
from .layout import MAPS, PARTITION, partition_of, scores_of
from .origins import Origins, origins_in, with_origins
from .score_files import clustered, to_parquet
from .snapshot import Journal, all_score_files, read_journal, score_objects, write_journal

_log = logging.getLogger(__name__)

# 50,000 rows: 5 MB of scores, 125 MB of maps at 518 px, and up to 75 MB of embeddings. A billion
# rows are 20,000 files.
TARGET_BYTES = 5_000_000
SHARD_BYTES = 128_000_000  # of a map shard, which is made in memory

Check = Callable[[], None]


@dataclass(frozen=True)
class Group:
    """Small score files of one partition that become one."""

    partition: str
    files: tuple[ObjectInfo, ...]

    @property
    def size(self) -> int:
        """Bytes of the score files."""
        return sum(info.size for info in self.files)


@dataclass
class Compaction:
    """What was done."""

    files_before: int = 0
    files_after: int = 0
    rows: int = 0
    failures: list[str] = field(default_factory=list)
    """Groups that can't be read and were left as they are, with the reason."""


def plan(
    output: str, *, before: str, target_bytes: int = TARGET_BYTES, maps: bool = True
) -> list[Group]:
    """Groups worth rewriting: files below half the target, of partitions before a date.

    Args:
        output: absolute URI of the output.
        before: YYYY-MM-DD; partitions of this day and later are left alone.
        maps: and other files whose maps are of a version that not every reader opens.

    Raises:
        StorageError: the output can't be listed.
    """
    folder = scores_of(output)
    partitions: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in score_objects(folder):
        found = re.fullmatch(rf"{PARTITION}/[^/]+", info.uri[len(folder) + 1 :])
        if found and found[1] < before:
            partitions[partition_of(found[1])].append(info)
    groups = []
    for partition, files in sorted(partitions.items()):
        chosen: list[ObjectInfo] = []
        for info in files:
            if info.size >= target_bytes / 2:
                groups.append(Group(partition, (info,)))
                continue
            chosen.append(info)
            if sum(each.size for each in chosen) >= target_bytes:
                groups.append(Group(partition, tuple(chosen)))
                chosen = []
        groups.append(Group(partition, tuple(chosen)))
    return [
        group
        for group in groups
        if len(group.files) > 1 or (maps and group.files and _has_former_maps(output, group))
    ]


def _has_former_maps(output: str, group: Group) -> bool:
    """Whether maps are to be rewritten; of what can't be read, the attempt tells why."""
    try:
        (info,) = group.files
        filesystem, path = arrow_filesystem(info.uri)
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            shards = file.read(columns=["map_file"])["map_file"].unique().drop_null().to_pylist()
        for shard in shards:
            filesystem, path = arrow_filesystem(f"{output}/{shard}")
            with pq.ParquetFile(path, filesystem=filesystem) as file:
                if map_shards.is_former(file.schema_arrow.names):
                    return True
    except (OSError, StorageError, pa.ArrowException):
        return True
    return False


def compact(
    output: str,
    *,
    before: str,
    target_bytes: int = TARGET_BYTES,
    maps: bool = True,
    check: Check = lambda: None,
) -> Compaction:
    """Rewrite what ``plan`` finds. The caller holds the output's lock.

    Args:
        maps: rewrite the map shards, too; the old ones stay until a vacuum. Without, rows point
            where they pointed, and nothing is left over.
        check: called before each step that others see; raises if the lock is lost.

    Raises:
        StorageError: the output can't be written; the next compaction goes on.
    """
    recover(output)
    done = Compaction()
    groups = plan(output, before=before, target_bytes=target_bytes, maps=maps)
    for number, group in enumerate(groups, 1):
        name = f"{group.partition}: {len(group.files)} files"
        try:
            rows, replacement = _merge(output, group, maps=maps)
        except (OSError, StorageError, ValueError, pa.ArrowException) as error:
            done.failures.append(f"{name} left as they are: {error}")
            continue
        _switch(output, group, rows, replacement, check)
        done.files_before += len(group.files)
        done.files_after += 1
        done.rows += len(rows)
        _log.info(f"{number} / {len(groups)} · {name} with {len(rows):,} rows became 1")
    return done


def recover(output: str) -> None:
    """Finish or undo what a killed compaction left. The caller holds the output's lock.

    Raises:
        StorageError: the output can't be read or written.
    """
    folder = scores_of(output)
    journal = read_journal(folder)
    if journal.hidden:
        # Only what is there: in a versioned bucket, deleting nothing would leave delete markers.
        there = all_score_files(folder)
        delete_objects([uri for name in journal.hidden if (uri := f"{folder}/{name}") in there])
        write_journal(folder, Journal(generation=journal.generation + 1))


def _switch(output: str, group: Group, rows: pa.Table, replacement: str, check: Check) -> None:
    folder = scores_of(output)
    generation = read_journal(folder).generation
    files = {
        "replaced": tuple(info.uri[len(folder) + 1 :] for info in group.files),
        "replacement": (replacement,),
    }
    check()
    write_journal(folder, Journal(generation=generation + 1, state="pending", **files))
    write_object(f"{folder}/{replacement}", to_parquet(rows))
    check()
    write_journal(folder, Journal(generation=generation + 2, state="committed", **files))
    check()
    delete_objects([info.uri for info in group.files])
    write_journal(folder, Journal(generation=generation + 3))


def _merge(output: str, group: Group, *, maps: bool) -> tuple[pa.Table, str]:
    """All rows of a group, and the name of their file; with ``maps`` in shards of their own.

    Without, the rows are those of the group's files as they were, and say so (``origins``). The
    name comes after all others of the partition, also those of earlier compactions: whoever
    lists a folder page by page while files are replaced meets the new one after the old ones.
    """
    name = f"{group.partition}/z-compacted-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{uuid4().hex[:6]}"
    folder = scores_of(output)
    tables, origins = list[pa.Table](), dict[str, Origins]()
    for info in group.files:
        table, origins[info.uri[len(folder) + 1 :]] = _read(info.uri)
        tables.append(table)
    rows = clustered(pa.concat_tables(tables).unify_dictionaries().combine_chunks())
    rows = _with_own_shards(output, name, rows) if maps else with_origins(rows, origins)
    return rows, f"{name}.parquet"


def _with_own_shards(output: str, name: str, rows: pa.Table) -> pa.Table:
    """The rows, pointing into map shards that are written here."""
    map_file = np.array(rows["map_file"].to_pylist(), dtype=object)
    map_row = rows["map_row"].fill_null(-1).to_numpy().copy()
    image_id = rows["image_id"]
    shards = _ShardWriter(output, f"{MAPS}/{name}")
    for shard in dict.fromkeys(map_file[map_row >= 0].tolist()):
        positions = np.flatnonzero(map_file == shard)
        positions = positions[np.argsort(map_row[positions], kind="stable")]
        for chunk, maps in _maps(f"{output}/{shard}", positions, map_row[positions]):
            if not maps["image_id"].equals(image_id.take(pa.array(chunk))):
                raise ValueError(f"{shard} holds maps of other images than its rows say")
            map_file[chunk], map_row[chunk] = shards.add(maps)
    shards.close()
    new = {
        "map_file": pa.array(map_file.tolist(), pa.string()),
        "map_row": pa.array(map_row, pa.int32(), mask=map_row < 0),
    }
    for column, values in new.items():
        rows = rows.set_column(rows.column_names.index(column), SCORE_SCHEMA.field(column), values)
    return rows


class _ShardWriter:
    """Map shards made in memory, one after the other, each of at most about ``SHARD_BYTES``."""

    def __init__(self, output: str, name: str) -> None:
        self._output, self._name, self._number = output, name, 0
        self._waiting: list[pa.Table] = []
        self._open()

    def _open(self) -> None:
        self._file = f"{self._name}-{self._number:05d}.parquet"
        self._rows, self._sink = 0, pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, MAP_SCHEMA, **map_shards.OPTIONS)

    def add(self, maps: pa.Table) -> tuple[str, NDArray[np.int32]]:
        """Take maps [n]; the shard that holds them, and their rows in it [n]."""
        file, first = self._file, self._rows
        self._rows += len(maps)
        self._waiting.append(maps)
        large = sum(each.nbytes for each in self._waiting) >= map_shards.BYTES_PER_GROUP
        if large or sum(map(len, self._waiting)) >= map_shards.ROWS_PER_GROUP:
            whole = pa.concat_tables(self._waiting)
            group = map_shards.rows_per_group(len(whole), whole.nbytes)
            end = len(whole) - len(whole) % group  # no short row groups in between
            self._writer.write_table(whole[:end], row_group_size=group)
            self._waiting = [whole[end:]]
        if self._sink.tell() >= SHARD_BYTES:
            self.close()
            self._number += 1
            self._open()
        return file, np.arange(first, first + len(maps), dtype=np.int32)

    def close(self) -> None:
        """Write the shard, if there is anything in it."""
        if self._waiting and (last := pa.concat_tables(self._waiting)).num_rows:
            group = map_shards.rows_per_group(len(last), last.nbytes)
            self._writer.write_table(last, row_group_size=group)
        self._waiting = []
        self._writer.close()
        if self._rows:
            write_object(f"{self._output}/{self._file}", self._sink.getvalue().to_pybytes())


def _maps(
    uri: str, positions: NDArray[np.intp], map_row: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.intp], pa.Table]]:
    """The maps of some rows of a shard, a row group at a time.

    Args:
        positions: of the score rows [n].
        map_row: of their maps [n], ascending.
    """
    filesystem, path = arrow_filesystem(uri)
    with pq.ParquetFile(path, filesystem=filesystem) as shard:
        if map_row[-1] >= shard.metadata.num_rows:
            raise ValueError(f"{uri} has fewer maps than its rows say")
        columns, first = map_shards.columns_of(shard.schema_arrow.names), 0
        for number in range(shard.num_row_groups):
            length = shard.metadata.row_group(number).num_rows
            start, end = np.searchsorted(map_row, [first, first + length])
            if start < end:
                group = shard.read_row_group(number, columns=columns)
                maps = group.take(pa.array(map_row[start:end] - first))
                yield positions[start:end], map_shards.of_today(maps)
            first += length


def _read(uri: str) -> tuple[pa.Table, Origins]:
    """A score file with the columns of today, and whose rows it repeats."""
    filesystem, path = arrow_filesystem(uri)
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        rows = file.read()
    unknown = set(rows.column_names) - set(SCORE_SCHEMA.names)
    if unknown:
        raise ValueError(f"{uri} has columns unknown to this version: {', '.join(sorted(unknown))}")
    arrays = [
        rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(len(rows), f.type)
        for f in SCORE_SCHEMA
    ]
    return pa.table(arrays, schema=SCORE_SCHEMA), origins_in(rows.schema)
