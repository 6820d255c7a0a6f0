"""Members by their URI alone, as lists and reference sets name them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

from pipeline.schema import ErrorCode
from pipeline.storage import ObjectInfo, StorageError, key_of, read_object, stat

from .index import ShardIndex
from .listing import members_of
from .places import shards_of
from .reading import read_version

SHARDS_KNOWN = 4  # whose members a process keeps

_listing = Lock()


@dataclass(frozen=True, slots=True)
class Named:
    """What a URI names, as a listing would give it."""

    info: ObjectInfo
    problem: StorageError | None = None
    """Why it can't be read, as far as a listing tells."""
    category: str | None = None
    """Class name that its shard gives it."""
    folder: str | None = None
    """Of its key, if it is not what is before its /."""


def read_named(uri: str, output: str | None = None) -> bytes:
    """The bytes of an image that only its URI is known of: an object, or a member of a shard.

    Args:
        uri: of the image.
        output: of the job that scored it, whose index knows shards without reading their headers.

    Raises:
        StorageError: it can't be read.
    """
    try:
        return read_object(uri)[0]
    except StorageError as error:
        if (found := find_member(uri, error, output)) is None:
            raise
    if found.problem is not None:
        raise found.problem
    return read_version(found.info.uri, found.info.etag)


def find_member(uri: str, problem: StorageError, output: str | None = None) -> Named | None:
    """A member of that URI, where there is no object.

    Args:
        uri: of the image.
        problem: what the store said of the URI.
        output: of a job whose index may know the shard.

    Returns:
        The member as a listing gives it; None if there is none. Where its shard is read in part or
        not at all, and so may hold it, the problem is the shard's.
    """
    # Without the right to list, S3 answers "denied" for keys that are not there.
    if problem.code not in (ErrorCode.NOT_FOUND, ErrorCode.ACCESS_DENIED):
        return None
    damaged = None
    for shard in shards_of(uri):
        try:
            info = stat(shard)
        except StorageError:
            continue
        with _listing:  # threads that ask for members of one shard list it once
            members = _known(shard, info.etag, info.size, output)
        name = uri[len(shard) + 1 :]
        if found := members.get(name):
            place, size, category, inside, *problem_told = found
            etag = f"{info.etag}#{place}"
            member = ObjectInfo(uri, etag, size, info.last_modified, info.archived)
            inside = name.rpartition("/")[0] if inside is None else inside
            folder = f"{key_of(shard).rpartition('/')[0]}/{inside}"
            return Named(member, _problem(*problem_told), category, folder)
        if (itself := members.get(None)) and (told := _problem(*itself[-2:])):
            damaged = damaged or Named(ObjectInfo(uri, "", 0, None), told)
    return damaged


def _problem(error: str | None, message: str) -> StorageError | None:
    return StorageError(ErrorCode(error), message) if error else None


@lru_cache(maxsize=SHARDS_KNOWN)
def _known(
    shard: str, etag: str, size: int, output: str | None
) -> dict[str | None, tuple[Any, ...]]:
    """A shard's rows of ``MEMBERS_SCHEMA`` by their names, without these."""
    from pipeline.config import DEFAULT_CATEGORY_COLUMN  # not above: readers need no settings

    index = ShardIndex(output, keep=False) if output else None
    members = members_of(shard, etag, size, index, DEFAULT_CATEGORY_COLUMN)
    names, *others = (column.to_pylist() for column in members.columns)
    return dict(zip(names, zip(*others, strict=True), strict=True))
