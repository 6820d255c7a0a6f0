"""The read stage on its own, without Ray: one row out for every row in, pixels or a reason."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pytest
from aiohttp import ClientSession, web
from PIL import Image

from infra.docs.formats import CASES
from pipeline.distributed import reader as reader_module
from pipeline.distributed.reader import (
    FETCH_THREADS,
    GROUP,
    GROUP_OBJECT_BYTES,
    ROWS_PER_YIELD,
    read_images,
)
from pipeline.images import decode, max_object_bytes, to_square
from pipeline.images.tiles import Squares, squares
from pipeline.inputs.shards import reading
from pipeline.schema import MANIFEST_SCHEMA, ErrorCode, pixel_schema
from pipeline.storage import StorageError, access, list_objects, read_object, write_object
from tests.bucket import BROKEN, jpeg, put
from tests.faults.proxy import Change, Proxy, running
from tests.image_files import fast_square, hide_extras

SIZE = 12  # side of the square; nothing here depends on it
Row = dict[str, Any]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URIs that the reader fetches."""
    uris: list[str] = []

    def record(uri: str) -> tuple[bytes, str]:
        uris.append(uri)
        return read_object(uri)

    monkeypatch.setattr(reading, "read_object", record)
    return uris


def manifest(folder: str) -> pa.Table:
    """The manifest rows of a folder, in the order of their names."""
    objects = sorted(
        (info for page in list_objects(folder) for info in page), key=lambda info: info.uri
    )
    rows = [
        {
            "image_id": f"{i:032x}",
            "uri": info.uri,
            "etag": info.etag,
            "size": info.size,
            "last_modified": info.last_modified,
            "category": "bottle",
        }
        for i, info in enumerate(objects)
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


def read(rows: pa.Table, *, max_megapixels: float = 100.0) -> list[Row]:
    """What the reader gives, with what must hold for all of it."""
    tables = list(read_images(rows, image_size=SIZE, max_megapixels=max_megapixels))
    assert all(table.schema.equals(pixel_schema(SIZE)) for table in tables)
    assert all(1 <= len(table) <= ROWS_PER_YIELD for table in tables)
    done: list[Row] = [row for table in tables for row in table.to_pylist()]
    kept = [name for name in MANIFEST_SCHEMA.names if not name.startswith("error")]
    assert [{n: row[n] for n in kept} for row in done] == rows.select(kept).to_pylist()
    for row in done:
        assert (row["pixels"] is None) == (row["error"] is not None)
        assert (row["error"] is None) == (row["error_message"] is None)
    return done


def one(path: Path, data: bytes) -> pa.Table:
    """The manifest of a folder with a single file."""
    write_object(str(path), data)
    return manifest(str(path.parent))


def test_pixels_and_size_are_those_of_the_decoded_image(tmp_path: Path) -> None:
    data = jpeg(1, size=(96, 64))
    (row,) = read(one(tmp_path / "a.jpg", data))
    assert row["pixels"] == to_square(decode(data), SIZE).pixels.tobytes()
    assert (row["width"], row["height"]) == (96, 64)
    assert row["fetch_s"] > 0
    assert row["decode_s"] > 0


def test_the_fast_decoder_gives_its_own_pixels_and_the_same_sizes(tmp_path: Path) -> None:
    data = jpeg(1, size=(96, 64))
    rows = one(tmp_path / "a.jpg", data)
    side = 70  # enough pixels that some differ by rounding
    (table,) = read_images(rows, image_size=side, max_megapixels=100.0, decoder="fast")
    (row,) = table.to_pylist()
    assert row["pixels"] == fast_square(data, side).pixels.tobytes()
    assert row["pixels"] != to_square(decode(data), side).pixels.tobytes()
    assert (row["width"], row["height"]) == (96, 64)


def test_frames_are_counted_and_extras_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"0": "TIFF of three pages", "1": "PNG, 8-bit gray", "2": "DICOM of three frames"}
    files = {each.words: each.make() for each in CASES}
    for name, file in words.items():
        write_object(f"{tmp_path}/{name}", files[file])
    assert [row["frames"] for row in read(manifest(str(tmp_path)))] == [3, 1, 3]
    hide_extras(monkeypatch, "dicom")
    last = read(manifest(str(tmp_path)))[-1]
    assert (last["frames"], last["error"]) == (None, "unsupported_mode")
    assert 'pip install "adaclip-pipeline[dicom]"' in last["error_message"]


def test_connections_are_used_again(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, {f"{i:03}.jpg": jpeg(i, size=(20, 20)) for i in range(6 * FETCH_THREADS)})
    proxy = CountingProxy(os.environ["AWS_ENDPOINT_URL"], lambda *_: None)
    with running(proxy) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        access.s3_client.cache_clear()
        try:
            rows = manifest(f"s3://{bucket}")
            proxy.connections.clear()
            for _ in range(2):  # two blocks of one process
                assert not any(row["error"] for row in read(rows))
        finally:
            access.s3_client.cache_clear()
    assert proxy.served >= 2 * 6 * FETCH_THREADS
    assert len(proxy.connections) <= FETCH_THREADS + 1  # and one of the listing


class CountingProxy(Proxy):
    """Remembers the connections over which requests came."""

    def __init__(self, upstream: str, change: Change) -> None:
        super().__init__(upstream, change)
        self.connections: set[int] = set()

    async def handle(self, request: web.Request, session: ClientSession) -> web.StreamResponse:
        """Remember and pass on."""
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername")[1])
        return await super().handle(request, session)


def test_rows_keep_their_order_over_many_yields(tmp_path: Path) -> None:
    count = 3 * FETCH_THREADS + 5  # more than are fetched ahead
    for i in range(count):
        write_object(f"{tmp_path}/{i:03}.jpg", jpeg(i, size=(20 + i, 20)))
    done = read(manifest(str(tmp_path)))
    assert [row["width"] for row in done] == [20 + i for i in range(count)]


def test_rows_from_s3_with_every_kind_of_failure(bucket: str, fetched: list[str]) -> None:
    good = {f"good/{name}": jpeg(1) for name in ("a b%20#+?.jpg", "ü::✓.jpg", "c.txt")}
    put(bucket, good | {key: body for key, (body, _) in BROKEN.items()})
    put(bucket, {"gone.jpg": jpeg(2), "replaced.jpg": jpeg(3)})
    rows = manifest(f"s3://{bucket}")
    boto3.client("s3").delete_object(Bucket=bucket, Key="gone.jpg")
    put(bucket, {"replaced.jpg": jpeg(4)})
    errors = {row["uri"].split("/", 3)[3]: row["error"] for row in read(rows)}
    assert errors == {
        **dict.fromkeys(good),
        **{key: code for key, (_, code) in BROKEN.items()},
        "gone.jpg": "not_found",
        "replaced.jpg": "changed",
    }
    assert not [uri for uri in fetched if "empty" in uri]
    assert len(fetched) == len(rows) - 1


@pytest.mark.parametrize("change", ["delete", "replace"])
def test_local_files_that_change_after_the_listing_are_noticed(change: str, tmp_path: Path) -> None:
    rows = one(tmp_path / "a.jpg", jpeg(1))
    if change == "delete":
        (tmp_path / "a.jpg").unlink()
    else:
        write_object(str(tmp_path / "a.jpg"), jpeg(2))
    (row,) = read(rows)
    assert row["error"] == ("not_found" if change == "delete" else "changed")
    assert row["fetch_s"] is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", ErrorCode.EMPTY),
        (b"plain text", ErrorCode.NOT_AN_IMAGE),
        (jpeg(1)[:300], ErrorCode.TRUNCATED),
    ],
)
def test_bytes_without_pixels_have_a_code(data: bytes, code: ErrorCode, tmp_path: Path) -> None:
    (row,) = read(one(tmp_path / "a.jpg", data))
    assert row["error"] == code.value
    assert (row["width"], row["height"]) == (None, None)


def test_an_image_without_a_defined_conversion_has_a_code(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tiff")
    (row,) = read(manifest(str(tmp_path)))
    assert row["error"] == "unsupported_mode"


def test_too_many_pixels_are_refused_and_their_number_is_kept(tmp_path: Path) -> None:
    (row,) = read(one(tmp_path / "a.jpg", jpeg(1, size=(200, 100))), max_megapixels=0.019)
    assert (row["error"], row["width"], row["height"]) == ("too_large", 200, 100)
    (row,) = read(manifest(str(tmp_path)), max_megapixels=0.02)
    assert row["error"] is None


def test_size_alone_decides_empty_and_too_large(tmp_path: Path, fetched: list[str]) -> None:
    limit = max_object_bytes(0.001)
    for name, size in (("a-empty", 0), ("b-too-large", limit + 1), ("c-at-the-limit", limit)):
        write_object(f"{tmp_path}/{name}", bytes(size))
    done = read(manifest(str(tmp_path)), max_megapixels=0.001)
    assert [row["error"] for row in done] == ["empty", "too_large", "not_an_image"]
    assert [uri.rsplit("/", 1)[1] for uri in fetched] == ["c-at-the-limit"]


def test_rows_that_failed_in_the_listing_pass_through(tmp_path: Path, fetched: list[str]) -> None:
    rows = one(tmp_path / "a.jpg", jpeg(1)).to_pylist()
    rows[0] |= {"error": "no_category", "error_message": "no class name"}
    missing = {"uri": "s3://b/missing", "error": "not_found", "error_message": "no such key"}
    given = pa.Table.from_pylist([*rows, missing], schema=MANIFEST_SCHEMA)
    done = read(given)
    assert [{name: row[name] for name in MANIFEST_SCHEMA.names} for row in done] == (
        given.to_pylist()
    )
    assert fetched == []


@pytest.mark.parametrize(
    "code", [ErrorCode.FETCH_FAILED, ErrorCode.ACCESS_DENIED, ErrorCode.NOT_FOUND]
)
def test_a_fetch_that_fails_is_a_row(
    code: ErrorCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(uri: str) -> tuple[bytes, str]:
        if uri.endswith("b.jpg"):
            raise StorageError(code, "the storage says no")
        return read_object(uri)

    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write_object(f"{tmp_path}/{name}", jpeg(1))
    monkeypatch.setattr(reading, "read_object", fail)
    done = read(manifest(str(tmp_path)))
    assert [row["error"] for row in done] == [None, code.value, None]
    assert done[1]["error_message"] == "the storage says no"


def test_an_empty_block_yields_nothing() -> None:
    assert read(MANIFEST_SCHEMA.empty_table()) == []


def test_few_objects_are_fetched_ahead_of_the_decoder(tmp_path: Path, fetched: list[str]) -> None:
    size, count = GROUP_OBJECT_BYTES + 1, 100  # too large to be fetched several in a row
    for i in range(count):
        write_object(f"{tmp_path}/{i:03}.jpg", bytes(size))
    tables = read_images(manifest(str(tmp_path)), image_size=SIZE, max_megapixels=1.0)
    next(tables)
    assert ROWS_PER_YIELD <= len(fetched) <= ROWS_PER_YIELD + 2 * FETCH_THREADS
    assert sum(map(len, tables)) == count - ROWS_PER_YIELD
    assert len(fetched) == count


def test_small_objects_are_fetched_several_in_a_row(tmp_path: Path, fetched: list[str]) -> None:
    """In order, with errors and large ones between them, and no more ahead than so many rows."""
    ahead = 2 * FETCH_THREADS * GROUP
    count = ahead + 3 * ROWS_PER_YIELD
    for i in range(count):
        size = {3: 0, 8: GROUP_OBJECT_BYTES + 1}.get(i % 11, 5)
        write_object(f"{tmp_path}/{i:03}.jpg", bytes(size))
    rows = manifest(str(tmp_path))
    tables = read_images(rows, image_size=SIZE, max_megapixels=1.0)
    done = [next(tables)]
    assert len(fetched) <= ROWS_PER_YIELD + ahead
    done += tables
    assert pa.concat_tables(done)["uri"].equals(rows["uri"])
    errors = pa.concat_tables(done)["error"].to_pylist()
    assert errors == ["empty" if i % 11 == 3 else "not_an_image" for i in range(count)]


def test_few_bytes_are_fetched_ahead_of_the_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, count = GROUP_OBJECT_BYTES + 1, 40
    monkeypatch.setattr(reader_module, "FETCHED_BYTES_AHEAD", 3 * size)
    lock, held, peak = threading.Lock(), 0, 0

    def fetch(uri: str) -> tuple[bytes, str]:
        nonlocal held, peak
        with lock:
            held += 1
            peak = max(peak, held)
        return read_object(uri)

    def release(data: bytes, **options: Any) -> Squares:
        nonlocal held
        with lock:
            held -= 1
        return squares(data, **options)

    monkeypatch.setattr(reading, "read_object", fetch)
    monkeypatch.setattr(reader_module, "squares", release)
    for i in range(count):
        write_object(f"{tmp_path}/{i:03}.jpg", jpeg(i)[:size].ljust(size, b"\0"))
    assert len(read(manifest(str(tmp_path)))) == count
    assert held == 0
    assert peak <= 4, "three that wait and the one that is being decoded"


def test_one_object_larger_than_the_window_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "FETCHED_BYTES_AHEAD", 10)
    for name in ("a.jpg", "b.jpg"):
        write_object(f"{tmp_path}/{name}", jpeg(1))
    assert [row["error"] for row in read(manifest(str(tmp_path)))] == [None, None]
