"""Shards: tar and zip archives and Parquet files whose members are images with rows of their own.

DICOM files of several frames are shards of these where a job asks for it.

A member's URI is that of its shard, ``#`` and its name: ``s3://bucket/shard-000.tar#a/1.jpg``. Its
ETag is that of the shard, ``#`` and where the member lies in it, so a row is enough to read it.
Shards are read by ranges; no name of a member ever becomes a path.
"""

from .columns import image_column
from .index import ShardIndex
from .listing import expanded
from .lookup import Named, find_member, read_named
from .places import shards_of
from .reading import Fetch, planned, read_version

__all__ = [
    "Fetch",
    "Named",
    "ShardIndex",
    "expanded",
    "find_member",
    "image_column",
    "planned",
    "read_named",
    "read_version",
    "shards_of",
]
