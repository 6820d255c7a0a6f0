"""What is asked of a store, as input and as output; an answer is "yes", or what is not so."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from uuid import uuid4

import boto3
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.output.compaction import compact
from pipeline.output.lock import CannotLockError, OutputLock
from pipeline.output.vacuum import vacuum
from pipeline.storage import (
    StorageError,
    arrow_filesystem,
    delete_objects,
    list_objects,
    read_object,
    stat,
    write_object,
)
from tests.listening import on_each_line
from tests.outputs import scored, write

BULK = 1_100  # more than one request deletes
ODD = ["a b.png", "100%.png", "a+b.png", "a#b.png", "a?b=c.png", "ü ✓.png", "<&>'\".png"]
FAST = {"heartbeat_s": 0.2, "stale_s": 2.0}


def new_bucket(scheme: str) -> str:
    """The URI of an empty bucket, or container."""
    name = f"test-{uuid4().hex[:12]}"
    if scheme == "s3":
        boto3.client("s3").create_bucket(Bucket=name)
    else:
        fsspec.filesystem(scheme).mkdir(name)
    return f"{scheme}://{name}"


def listing(bucket: str) -> str:
    """Every object at every depth, with one version in listing, look-up and read."""
    uris = {f"{bucket}/in/{key}" for key in ("a.png", "d/b.png", "d/e/c.png")}
    for uri in uris:
        write_object(uri, uri.encode())
    found = {info.uri: info for page in list_objects(f"{bucket}/in") for info in page}
    if set(found) != uris:
        return f"lists {sorted(found)}"
    for uri, info in found.items():
        if not info.etag == stat(uri).etag == read_object(uri)[1]:
            return f"versions differ: {info.etag}, {stat(uri).etag}, {read_object(uri)[1]}"
        if info.last_modified is None:
            return "no last_modified"
    return "yes"


def odd_keys(bucket: str) -> str:
    """Any character in a key."""
    return _kept(bucket, ODD)


def empty_folders(bucket: str) -> str:
    """Two slashes in a row."""
    return _kept(bucket, ["m//two.png"])


def _kept(bucket: str, keys: list[str]) -> str:
    folder, lost = f"{bucket}/{uuid4().hex}", []
    for key in keys:
        try:
            write_object(f"{folder}/{key}", key.encode())
        except StorageError:
            lost.append(key)
    found = {info.uri for page in list_objects(folder) for info in page}
    lost = [key for key in keys if f"{folder}/{key}" not in found]
    return f"not {', '.join(map(repr, lost))}" if lost else "yes"


def ranges(bucket: str) -> str:
    """Arrow reads parts of a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"uri": [f"{bucket}/{i}" for i in range(50_000)]}), sink)
    write_object(f"{bucket}/list.parquet", sink.getvalue())
    filesystem, path = arrow_filesystem(f"{bucket}/list.parquet")
    return "yes" if pq.read_table(path, filesystem=filesystem).num_rows == 50_000 else "no"


def lock(bucket: str) -> str:
    """Taken, renewed, given back, and refused to a second owner."""
    waited, warned = list[str](), list[str]()
    for run_id in ("first", "second"):
        output = f"{bucket}/out"
        try:
            with (
                on_each_line(waited.append),
                on_each_line(warned.append, logging.WARNING),
                OutputLock(output, run_id=run_id, **FAST) as held,
            ):
                time.sleep(3 * FAST["heartbeat_s"])
                held.check()
        except CannotLockError:
            return "refused: --no-lock"
    return "weak: conditions ignored" if warned else "yes" if not waited else waited[0]


def deletes(bucket: str) -> str:
    """More objects than fit into one request, some of which are not there."""
    uris = [f"{bucket}/d/{i}" for i in range(BULK)]
    for uri in uris[::50]:
        write_object(uri, b"x")
    delete_objects(uris)
    return "no" if any(list_objects(f"{bucket}/d")) else "yes"


def maintenance(bucket: str) -> str:
    """Compaction and vacuum of two nights' rows and maps."""
    output = f"{bucket}/results"
    for i in range(2):
        write(output, [scored("s3://b/in", i, 0.5)], "2026-01-01", run_id=f"run-{i}")
    done = compact(output, before="2026-02-01")
    vacuum(output)
    return "yes" if (done.files_before, done.files_after, done.failures) == (2, 1, []) else "no"


CHECKS: dict[str, Callable[[str], str]] = {
    "input": listing,
    "odd keys": odd_keys,
    "`//` in keys": empty_folders,
    "ranges": ranges,
    "lock": lock,
    "deletes": deletes,
    "compaction, vacuum": maintenance,
}
