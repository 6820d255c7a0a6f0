"""Parquet files with a column of images, as Hugging Face and others write them.

A member is a row: its bytes are those of a binary column, or of the field ``bytes`` of a struct.
Only that column is read, a few rows of a row group at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.schema import ErrorCode

from .file import DamagedShardError, NoShardError, ShardFile, TooMuchError
from .members import MAX_CLASS_NAME, MEMBERS_SCHEMA, Members

MAGIC = b"PAR1"
# What columns of images are called, where there are several of bytes.
IMAGE_COLUMNS = ("image", "img", "image_bytes", "bytes", "jpg", "jpeg", "png", "webp", "tiff")
BUFFER_BYTES = 1 << 22  # of a request for a column that is read from one end to the other
MAX_ROWS = 10_000_000  # of a file, each of which becomes a row of the manifest
MAX_NAME_BYTES = 4096  # of a path: as long as Linux lets them be
TEXT_ROWS = 1024  # of a column of paths or classes at a time


@dataclass(frozen=True)
class ImageColumn:
    """Where a table keeps its images."""

    leaf: str
    """The column of bytes, as Parquet spells it: ``image.bytes``."""
    path: str | None
    """The column of their names, if there is one."""


def image_column(schema: pa.Schema) -> ImageColumn:
    """The column that holds the images.

    Raises:
        ValueError: there is none, or several; names the columns.
    """
    found: dict[str, ImageColumn] = {}
    for field in schema:
        if _is_binary(field.type):
            found[field.name] = ImageColumn(field.name, None)
        elif pa.types.is_struct(field.type):
            inside = {inner.name: inner.type for inner in field.type}
            if "bytes" in inside and _is_binary(inside["bytes"]):
                path = "path" in inside and _is_text(inside["path"])
                name = f"{field.name}.path" if path else None
                found[field.name] = ImageColumn(f"{field.name}.bytes", name)
    named = [name for name in found if name.lower() in IMAGE_COLUMNS]
    named.sort(key=lambda name: IMAGE_COLUMNS.index(name.lower()))
    chosen = list(found) if len(found) == 1 else named[:1]
    if chosen:
        return found[chosen[0]]
    problem = f"which of {', '.join(found)} holds images?" if found else "no column holds images"
    raise ValueError(
        f"{problem} (it has: {', '.join(schema.names)}); images are bytes, or a struct of bytes "
        f"and path, in a column called {IMAGE_COLUMNS[0]!r}, say"
    )


def read_parquet(file: ShardFile, members: Members, category_column: str) -> None:
    """Add the rows of a Parquet file.

    Args:
        file: the shard.
        members: receives them.
        category_column: names their class, if the file has it: text, or numbers whose names Hugging
            Face's metadata give.

    Raises:
        NoShardError: it is no Parquet file.
        DamagedShardError: its footer can't be read, or it has no column of images.
        StorageError: it can't be read.
    """
    if file.read_at(0, 4) != MAGIC:
        raise NoShardError
    with damage_told():
        table = open_table(file)
        schema = table.schema_arrow
        try:
            column = image_column(schema)
        except ValueError as error:
            raise DamagedShardError(str(error), ErrorCode.NOT_AN_IMAGE) from None
        if table.metadata.num_rows > MAX_ROWS:
            raise TooMuchError(f"{table.metadata.num_rows:,} rows; at most {MAX_ROWS:,} are read")
        names = _unique_names(table, column)
        classes = _Classes.of(schema, category_column)
        first = 0
        for group in range(table.num_row_groups):
            about = table.metadata.row_group(group)
            count = about.num_rows
            given: Any = pa.nulls(count, pa.string())
            if classes is not None and count:
                parts = _values(table, category_column, [group])
                given = pa.concat_arrays([classes.names(part) for part in parts])
            columns = {
                "name": _numbers(first, count) if names is None else names[first : first + count],
                "place": pc.binary_join_element_wise(str(group), _numbers(0, count), "."),
                "size": pa.repeat(pa.scalar(mean_size(about, column.leaf)), count),
                "category": given,
            }
            arrays = [columns.get(f.name, pa.nulls(count, f.type)) for f in MEMBERS_SCHEMA]
            members.add_table(pa.table(arrays, schema=MEMBERS_SCHEMA))
            first += count


def mean_size(group: Any, leaf: str) -> int:
    """Bytes of a value of a column of a row group; no footer tells those of each."""
    chunks = map(group.column, range(group.num_columns))
    chunk = next(each for each in chunks if each.path_in_schema == leaf)
    return max(1, int(chunk.total_uncompressed_size) // max(1, int(group.num_rows)))


def open_table(file: ShardFile) -> pq.ParquetFile:
    """Its columns are read a buffer at a time; by itself Arrow would fetch a row group at once."""
    source = pa.PythonFile(file, mode="r")
    return pq.ParquetFile(source, buffer_size=BUFFER_BYTES, pre_buffer=False)


def _numbers(first: int, count: int) -> pa.Array:
    return pa.array(np.arange(first, first + count)).cast(pa.string())


def _values(table: pq.ParquetFile, leaf: str, groups: Sequence[int]) -> Iterator[pa.Array]:
    """A column, few rows at a time: a file of nothing may repeat a long text a million times."""
    for batch in table.iter_batches(batch_size=TEXT_ROWS, row_groups=groups, columns=[leaf]):
        column = batch.column(0)
        yield column.field(leaf.rpartition(".")[2]) if pa.types.is_struct(column.type) else column


def _unique_names(table: pq.ParquetFile, column: ImageColumn) -> pa.Array | None:
    """The paths in the file, if each row has one of its own, which could be a file's."""
    if column.path is None or not table.metadata.num_rows:
        return None
    parts = []
    for part in _values(table, column.path, range(table.num_row_groups)):
        if part.null_count or pc.max(pc.binary_length(part)).as_py() > MAX_NAME_BYTES:
            return None
        parts.append(part.cast(pa.string()))
    found = pa.concat_arrays(parts)
    return found if len(pc.unique(found)) == len(found) else None


@dataclass(frozen=True)
class _Classes:
    """What a column says of classes."""

    of_numbers: Sequence[str] | None
    """Names that numbers stand for; None: it is text."""

    @classmethod
    def of(cls, schema: pa.Schema, column: str) -> _Classes | None:
        """Those of a column; None if it names no classes."""
        if column not in schema.names or schema.names.count(column) > 1:
            return None
        kind = schema.field(column).type
        if _is_text(kind) or (pa.types.is_dictionary(kind) and _is_text(kind.value_type)):
            return cls(None)
        with suppress(ValueError, TypeError, LookupError):
            # huggingface.co/docs/datasets, "Features": ClassLabel keeps the names.
            about = json.loads((schema.metadata or {})[b"huggingface"])
            names = about["info"]["features"][column]["names"]
            if pa.types.is_integer(kind) and all(isinstance(name, str) for name in names):
                return cls(tuple(names))
        return None

    def names(self, column: pa.Array) -> pa.Array:
        """The class names [n]; "" where there is none."""
        if self.of_numbers is None:
            found = column.cast(pa.string())
        else:
            known = pc.and_(pc.greater_equal(column, 0), pc.less(column, len(self.of_numbers)))
            at = pc.if_else(known, column, None).cast(pa.int64())
            found = pa.array(self.of_numbers, pa.string()).take(at)
        found = pc.fill_null(found, "")
        short = pc.less_equal(pc.utf8_length(found), MAX_CLASS_NAME)
        return pc.if_else(short, found, "")


@contextmanager
def damage_told() -> Iterator[None]:
    """What Arrow says of damaged files, as ``DamagedShardError``."""
    try:
        yield
    except MemoryError:  # Arrow's own, too: another time there may be enough
        raise
    except (pa.ArrowException, TooMuchError, OSError) as error:
        raise DamagedShardError(f"the Parquet file is damaged: {error}") from error


def _is_binary(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(matches(kind) for matches in kinds)


def _is_text(kind: pa.DataType) -> bool:
    return any(
        matches(kind)
        for matches in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )
