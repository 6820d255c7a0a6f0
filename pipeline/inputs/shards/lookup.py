"""Members by their URI alone, as lists and reference sets name them."""

from __future__ import annotations

from functools import lru_cache
from threading import Lock

from pipeline.schema import ErrorCode
from pipeline.storage import ObjectInfo, StorageError, read_object, stat

from .index import ShardIndex
from .listing import members_of
from .places import shards_of
from .reading import read_version

SHARDS_KNOWN = 4  # whose members a process keeps

_listing = Lock()


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
    return read_version(found.uri, found.etag)


def find_member(uri: str, problem: StorageError, output: str | None = None) -> ObjectInfo | None:
    """A member of that URI, where there is no object.

    Args:
        uri: of the image.
        problem: what the store said of the URI.
        output: of a job whose index may know the shard.

    Returns:
        The member as a listing gives it; None if there is none.
    """
    # Without the right to list, S3 answers "denied" for keys that are not there.
    if problem.code not in (ErrorCode.NOT_FOUND, ErrorCode.ACCESS_DENIED):
        return None
    for shard in shards_of(uri):
        try:
            info = stat(shard)
        except StorageError:
            continue
        with _listing:  # threads that ask for members of one shard list it once
            members = _known(shard, info.etag, info.size, output)
        if found := members.get(uri[len(shard) + 1 :]):
            place, size = found
            return ObjectInfo(uri, f"{info.etag}#{place}", size, info.last_modified, info.archived)
    return None


@lru_cache(maxsize=SHARDS_KNOWN)
def _known(shard: str, etag: str, size: int, output: str | None) -> dict[str, tuple[str, int]]:
    """Place and size of a shard's members by name."""
    from pipeline.config import DEFAULT_CATEGORY_COLUMN  # not above: readers need no settings

    index = ShardIndex(output, keep=False) if output else None
    members = members_of(shard, etag, size, index, DEFAULT_CATEGORY_COLUMN)
    names, *where = (members[name].to_pylist() for name in ("name", "place", "size"))
    return dict(zip(names, zip(*where, strict=True), strict=True))
