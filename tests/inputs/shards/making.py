"""Small shards, and what the pipeline finds in them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.inputs.shards.listing import members_of
from pipeline.inputs.shards.reading import read_version
from pipeline.storage import stat

Row = dict[str, Any]
Files = Iterable[tuple[str, bytes]]


def tar_of(files: Files, format: int = tarfile.GNU_FORMAT, links: Files = ()) -> bytes:
    """A tar of files, and of symbolic links to names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, errors="surrogateescape") as tar:
        for name, data in files:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
        for name, target in links:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = tarfile.SYMTYPE, target.decode()
            tar.addfile(header)
    return buffer.getvalue()


def zip_of(files: Files, compression: int = zipfile.ZIP_STORED, system: int = 3) -> bytes:
    """A zip of files, made on a system: 0 is DOS or Windows, 3 is Unix."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files:
            member = zipfile.ZipInfo(name)
            member.create_system, member.compress_type = system, compression
            archive.writestr(member, data)
    return buffer.getvalue()


def parquet_of(columns: dict[str, Any], **options: Any) -> bytes:
    """A Parquet file of columns."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue().to_pybytes()


def hugging_face(images: Files, **options: Any) -> bytes:
    """A Parquet file as Hugging Face's data sets are."""
    column = pa.array([{"bytes": data, "path": name} for name, data in images])
    return parquet_of({"image": column}, **options)


def listed(path: Path, category_column: str = "category") -> list[Row]:
    """What a local shard holds, without an index."""
    info = stat(f"file://{path}")
    return members_of(info.uri, info.etag, info.size, None, category_column).to_pylist()


def contents(path: Path) -> list[tuple[str, bytes]]:
    """Names and bytes of the members of a local shard, each read as a row's would be."""
    uri = f"file://{path}"
    etag = stat(uri).etag
    return [
        (row["name"], read_version(f"{uri}#{row['name']}", f"{etag}#{row['place']}"))
        for row in listed(path)
    ]
