"""What files hold, without reading them all: which are equal, and which masks show no defect."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import NamedTuple

from ..inputs.shards import read_named, shards_of
from ..storage import LISTING_THREADS, StorageError, list_objects, read_object
from .listing import DatasetError
from .masks import has_defect

# What is read before the first step of a training, at most: minutes, whatever the data set.
MAX_MASKS = 1_000
MAX_COMPARED = 10_000  # files
MAX_COMPARED_BYTES = 10**10
# Objects that are listed for each image, so that a list of a few does not list a whole bucket.
MAX_LISTED = 100

# S3's, of an object that was uploaded at once, or in parts. Of objects with keys of a key service
# it looks the same and is no hash: equal ones are then not found.
_CONTENT_HASH = re.compile(r'"[0-9a-f]{32}(?:-\d+)?"')


class Contents(NamedTuple):
    """Files by what they hold."""

    keys: dict[str, str]
    """URI → equal for equal contents; only of files whose contents others may have."""
    unknown: int
    """Files that were not compared: too many of equal size, not listed, or unreadable."""


def contents_of(data_sets: Iterable[Collection[str]]) -> Contents:
    """Tell files apart by their contents.

    By a listing of the folder that a data set's files share: S3's hashes of contents, elsewhere
    sizes. Files of equal size are read, the smallest first, up to ``MAX_COMPARED`` of them and
    ``MAX_COMPARED_BYTES``. Members of shards are not compared.

    Args:
        data_sets: URIs of the files of each.
    """
    uris: set[str] = set()
    sizes, keys = {}, {}
    for files in map(set, data_sets):
        uris |= files
        for uri, etag, size in _listed(files):
            if uri.startswith("s3://") and _CONTENT_HASH.fullmatch(etag):
                keys[uri] = f"{etag} {size}"
            else:
                sizes[uri] = size
    often = Counter(sizes.values())
    alike = [
        uri for uri in sorted(sizes, key=lambda uri: (sizes[uri], uri)) if often[sizes[uri]] > 1
    ]
    total = accumulate(sizes[uri] for uri in alike[:MAX_COMPARED])
    chosen = alike[: sum(size <= MAX_COMPARED_BYTES for size in total)]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        read = zip(chosen, pool.map(_hash, chosen), strict=True)
        keys |= {uri: key for uri, key in read if key is not None}
    unknown = len(uris) - len(keys) - (len(sizes) - len(alike))
    return Contents(keys, unknown)


def defects_in(masks: Mapping[str, Sequence[str]]) -> dict[str, bool]:
    """Whether the masks of each image show any defect, of the images that were looked at.

    Args:
        masks: URIs of the masks of each image. Of more than ``MAX_MASKS`` images, so many are
            looked at, evenly spread.

    Returns:
        By image; those whose masks can't be read are left out, which is nobody's concern here.
    """
    every = sorted(masks)
    count = min(len(every), MAX_MASKS)
    chosen = [every[i * len(every) // count] for i in range(count)]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        shown = pool.map(_shows_defect, [masks[uri] for uri in chosen])
        return {uri: each for uri, each in zip(chosen, shown, strict=True) if each is not None}


def _listed(uris: set[str]) -> Iterator[tuple[str, str, int]]:
    """URI, ETag and size of those that a listing of the folder that they share finds."""
    outermost = [next(iter(shards_of(uri)), uri) for uri in uris]
    folder = os.path.commonprefix(outermost).rpartition("/")[0]  # noqa: RUF071
    if not folder.partition("://")[2]:
        return
    seen = 0
    try:
        for page in list_objects(folder):
            yield from ((info.uri, info.etag, info.size) for info in page if info.uri in uris)
            seen += len(page)
            if seen > MAX_LISTED * len(uris):
                return
    except StorageError:  # who reads the images says what is wrong
        return


def _hash(uri: str) -> str | None:
    try:
        return hashlib.blake2b(read_object(uri)[0], digest_size=16).hexdigest()
    except StorageError:
        return None


def _shows_defect(masks: Sequence[str]) -> bool | None:
    try:
        return any(has_defect(read_named(mask)) for mask in masks)
    except (DatasetError, StorageError):
        return None
