"""What a table remembers of the score files whose rows it holds.

Names of score files are never given twice, so eight bytes of a hash of each are enough: of 20,000
files, which are a billion rows, 240 KB. Only those are kept that are still there.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.output.origins import is_repeated, origins_in
from pipeline.schema import SCORE_SCHEMA
from pipeline.storage import arrow_filesystem

from .errors import PublishingError

FOOTER_THREADS = 16


class PublishedFiles:
    """Score files of one folder, by name relative to it."""

    def __init__(self, text: str) -> None:
        """Take what a table remembers (``remember``)."""
        self._digests = frozenset(text.split())

    def __contains__(self, name: object) -> bool:
        """Whether the rows of a file were published under its own name."""
        return _digest(str(name)) in self._digests


def remember(folder: str, files: Iterable[str]) -> str:
    """What a table remembers in which all these files, given by URI, are published."""
    return " ".join(sorted(_digest(uri[len(folder) + 1 :]) for uri in files))


def unpublished(folder: str, files: Iterable[str], text: str) -> list[str]:
    """Those of some score files that hold a row which is not published.

    Opens the footers of files whose names are new.

    Args:
        folder: the score folder, an absolute URI.
        files: URIs.
        text: what the table remembers.

    Raises:
        PublishingError: a file has columns of a newer version of this package.
        OSError, pa.ArrowException: a file can't be read.
    """
    known = PublishedFiles(text)
    new = [uri for uri in files if uri[len(folder) + 1 :] not in known]
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        found = [(uri, schema) for uri, schema in zip(new, pool.map(_schema, new), strict=True)]
    for uri, schema in found:
        if unknown := set(schema.names) - set(SCORE_SCHEMA.names):
            raise PublishingError(
                f"{uri} has columns unknown to this version, which would be missing from the table "
                f"for good: {', '.join(sorted(unknown))}; publish with the version that wrote it"
            )
    return [uri for uri, schema in found if not is_repeated(origins_in(schema), known)]


def _schema(uri: str) -> pa.Schema:
    filesystem, path = arrow_filesystem(uri)
    return pq.read_schema(path, filesystem=filesystem)


def _digest(name: str) -> str:
    return urlsafe_b64encode(blake2b(name.encode(), digest_size=8).digest()).rstrip(b"=").decode()
