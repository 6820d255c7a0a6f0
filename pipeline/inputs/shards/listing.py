"""Listed objects, of which shards are replaced by what they hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.images.extras import MissingExtraError
from pipeline.schema import ErrorCode
from pipeline.storage import LISTING_THREADS, StorageError

from .columns import read_parquet
from .file import DamagedShardError, NoShardError, ShardFile, TooMuchError
from .frames import FRAMES_PATTERN, read_frames
from .index import ShardIndex
from .members import Members, Samples
from .places import PLACE_PATTERN, SHARD_PATTERN
from .tar import read_tar
from .zipped import read_zip

THREADS = 8  # shards whose headers are read side by side
SHARDS_AHEAD = 16  # listed before what comes after them is asked for
_KINDS = ("tar", "zip", "parquet")
HEADERS_AT_ONCE = 64  # of objects that may hold frames; most are single pictures


def expanded(
    objects: pa.Table, index: ShardIndex, category_column: str, *, frames: bool = False
) -> Iterator[tuple[str | None, pa.Table]]:
    """Listed objects, with a shard's members in its place.

    A shard that is damaged has a row of its own, which says what could not be read, behind those of
    the members that could. An object that is no shard but for its name stays as it is.

    Args:
        objects: ``objects.LISTED_SCHEMA``.
        index: where members of shards are looked up first.
        category_column: of Parquet files, which names the class of each row.
        frames: whether DICOM files of several frames are shards of these, too.

    Yields:
        Tables of the same schema: of objects, with None, or of what one shard holds, with the
        shard's key. Its members have ``key`` and ``#`` and their own names for a key, and for a
        folder that of the shard and their own.
    """
    shards = _which(objects, SHARD_PATTERN)
    others = objects.filter(pc.invert(shards))
    if frames:
        yield from _with_frames(others, index)
    else:
        yield None, others
    if not pc.any(shards).as_py():
        return
    waiting: deque[tuple[pa.Table, Future[pa.Table]]] = deque()
    chosen = objects.filter(shards).combine_chunks()
    read = partial(members_of, index=index, category_column=category_column)
    pool = ThreadPoolExecutor(THREADS)
    try:
        for i in range(len(chosen)):
            shard = chosen[i : i + 1]
            (row,) = shard.select(["uri", "etag", "size"]).to_pylist()
            waiting.append((shard, pool.submit(read, **row)))
            if len(waiting) == SHARDS_AHEAD:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    finally:
        pool.shutdown(cancel_futures=True)


def _with_frames(objects: pa.Table, index: ShardIndex) -> Iterator[tuple[str | None, pa.Table]]:
    """Objects of one picture, and the frames of those that hold several."""
    maybe = _which(objects, FRAMES_PATTERN)
    asked = objects.filter(maybe).combine_chunks()
    known = pa.array(index.singles.known(asked))
    yield None, pa.concat_tables([objects.filter(pc.invert(maybe)), asked.filter(known)])
    asked = asked.filter(pc.invert(known))
    read = partial(members_of, index=index, category_column="")
    pool = ThreadPoolExecutor(LISTING_THREADS)
    try:
        for first in range(0, len(asked), HEADERS_AT_ONCE):
            files = asked[first : first + HEADERS_AT_ONCE]
            where = (files[name].to_pylist() for name in ("uri", "etag", "size"))
            single = np.zeros(len(files), bool)
            for i, members in enumerate(pool.map(read, *where)):
                single[i] = not members["name"][0].is_valid and not members["error"][0].is_valid
                if not single[i]:
                    yield files["key"][i].as_py(), _rows(files[i : i + 1], members)
            index.singles.add(files.filter(pa.array(single)))
            yield None, files.filter(pa.array(single))
    finally:
        pool.shutdown(cancel_futures=True)


def _first(waiting: deque[tuple[pa.Table, Future[pa.Table]]]) -> tuple[str, pa.Table]:
    shard, members = waiting.popleft()
    return shard["key"][0].as_py(), _rows(shard, members.result())


def members_of(
    uri: str, etag: str, size: int, index: ShardIndex | None, category_column: str
) -> pa.Table:
    """What a shard holds (``MEMBERS_SCHEMA``), from the index or from its headers.

    What can't be read or is damaged is said in a row without a name.
    """
    found = None if index is None else index.find(uri, etag, category_column)
    if found is not None:
        return found
    members = Members()
    try:
        _read(ShardFile(uri, etag, size), members, category_column)
        if not members.count:
            members.add_damage("the shard holds no file", ErrorCode.EMPTY)
    except (NoShardError, MissingExtraError):
        members.add_itself()
    except DamagedShardError as error:
        members.add_damage(_with_count(str(error), members.count), error.code)
    except TooMuchError as error:
        members.add_damage(_with_count(f"the shard is damaged: it claims {error}", members.count))
    except StorageError as error:  # another time it may be read
        members.add_damage(str(error), error.code)
        return members.table()
    table = members.table()
    if index is not None and (members.count or _kind(uri) in _KINDS):  # see ``Singles`` for others
        index.add(uri, etag, category_column, table)
    return table


def _read(file: ShardFile, members: Members, category_column: str) -> None:
    kind = _kind(file.uri)
    if kind == "parquet":
        read_parquet(file, members, category_column)
        return
    if kind not in _KINDS:
        read_frames(file, members)
        return
    samples = Samples(members)
    try:
        (read_tar if kind == "tar" else read_zip)(file, samples)
    finally:
        samples.end()


def _kind(uri: str) -> str:
    return uri.lower().rpartition(".")[2]


def _with_count(message: str, count: int) -> str:
    return f"{message}; {count:,} files of it were read"


def _which(objects: pa.Table, pattern: str) -> pa.Array:
    """Whether each of the objects has such a name and can be opened; members can't be."""
    named = pc.match_substring_regex(objects["uri"], pattern)
    member = pc.match_substring_regex(objects["etag"], PLACE_PATTERN)
    named = pc.and_not(named, pc.fill_null(member, False))
    readable = pc.and_(pc.is_null(objects["error"]), pc.greater(objects["size"], 0))
    return pc.fill_null(pc.and_(named, readable), False)


def _rows(shard: pa.Table, members: pa.Table) -> pa.Table:
    """Members as listed objects."""
    (row,) = shard.to_pylist()
    count, is_member = len(members), pc.is_valid(members["name"])

    def joined(own: str, column: str) -> Any:
        text = pc.binary_join_element_wise(own, members[column], "#")
        return pc.if_else(is_member, text, own)

    folder = row["key"].rpartition("/")[0]
    inside = pc.coalesce(
        members["folder"], pc.replace_substring_regex(members["name"], r"(?s)(?:^|/)[^/]*$", "")
    )
    columns: dict[str, Any] = {
        "uri": joined(row["uri"], "name"),
        "etag": joined(row["etag"], "place"),
        "size": pc.if_else(is_member, members["size"], row["size"]),
        "key": joined(row["key"], "name"),
        "folder": pc.if_else(is_member, pc.binary_join_element_wise(folder, inside, "/"), folder),
        "error": members["error"],
        "error_message": members["error_message"],
    }
    given = row["category"]  # a list's own word for all that the shard holds
    columns["category"] = members["category"] if given is None else pa.repeat(given, count)
    for name in set(shard.column_names) - set(columns):
        columns[name] = pa.repeat(shard[name][0], count)
    return pa.table([columns[f.name] for f in shard.schema], schema=shard.schema)
