"""A Delta Lake table, through deltalake (delta-rs)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import TableNotFoundError
from pyarrow.fs import SubTreeFileSystem

from pipeline.config import DeltaPlace
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, absolute, arrow_filesystem, read_object

from .settings import s3_settings
from .table import (
    DESCRIPTION,
    KEYS,
    OUTPUT,
    PARTITION,
    PUBLISHED,
    Change,
    may_hold,
    of_images,
)

APPLICATION = "adaclip"
"""Of the transactions that count the publications: Delta refuses two of the same application that
began from the same version, so of two publications at once one fails."""
SUPERSEDED = "superseded"  # a column of what is merged, not of the table
# Statistics of names: whole, or the least and greatest of long URIs with one prefix are the same.
_WRITER = WriterProperties(compression="ZSTD", statistics_truncate_length=1024)


class DeltaLake:
    """See ``table.Table``."""

    def __init__(self, place: DeltaPlace) -> None:
        """Open the table, if it is there.

        Raises:
            DeltaError, OSError: it can't be read.
        """
        self._uri = absolute(place.folder)
        self._options = _options(self._uri)
        self._table: DeltaTable | None = None
        # Not is_deltatable, which lets no other thread run while it waits for the store.
        with suppress(TableNotFoundError):
            self._table = DeltaTable(self._uri, storage_options=self._options)

    @property
    def exists(self) -> bool:
        """See ``table.Table``."""
        return self._table is not None

    @property
    def output(self) -> str | None:
        """See ``table.Table``."""
        return self._table.metadata().configuration.get(OUTPUT) if self._table else None

    @property
    def published(self) -> str:
        """What the newest commit of a publication says.

        Others may have committed since. If that is so long ago that the log does not go back to it,
        nothing is known, and everything is published once more.
        """
        if self._table is None or self._table.transaction_version(APPLICATION) is None:
            return ""
        # The log itself: history() lets no other thread run while it waits for the store.
        for version in range(self._table.version(), -1, -1):
            try:
                commit, _ = read_object(f"{self._uri}/_delta_log/{version:020}.json")
            except StorageError as error:
                if error.code != ErrorCode.NOT_FOUND:
                    raise
                break
            for line in commit.splitlines():
                if PUBLISHED in (found := json.loads(line).get("commitInfo", {})):
                    return str(found[PUBLISHED])
        return ""

    def rows_of(self, uris: pa.Array) -> Iterator[pa.Table]:
        """See ``table.Table``."""
        if self._table is None:
            return
        files = pa.table(self._table.get_add_actions(flatten=True))
        known = [name for name in ("path", "min.uri", "max.uri") if name in files.column_names]
        bounds = {
            file["path"]: (file.get("min.uri"), file.get("max.uri"))
            for file in files.select(known).to_pylist()
        }
        # Read through our own clients: delta-rs's lets no other thread run while it waits.
        filesystem, path = arrow_filesystem(self._uri)
        dataset = self._table.to_pyarrow_dataset(filesystem=SubTreeFileSystem(path, filesystem))
        for fragment in dataset.get_fragments():
            if may_hold(uris, *bounds.get(fragment.path, (None, None))):
                one = ds.FileSystemDataset(
                    [fragment], dataset.schema, dataset.format, dataset.filesystem
                )
                yield of_images(one.to_table(KEYS.names).cast(KEYS), uris)

    def commit(self, change: Change) -> None:
        """See ``table.Table``.

        A table that is new is there, and empty, from before its first rows come: only so may it
        have properties of its own.
        """
        table = self._table or self._create(change)
        known = pa.schema(table.schema()).names
        missing = [name for name in change.schema.names if name not in known]
        version = (table.transaction_version(APPLICATION) or 0) + 1
        commit = CommitProperties(
            custom_metadata={OUTPUT: change.output, PUBLISHED: change.published},
            app_transactions=[Transaction(APPLICATION, version)],
        )
        if not len(change.superseded):
            write_deltalake(
                table,
                _reader(change.rows(), change.schema),
                mode="append",
                schema_mode="merge" if missing else None,
                writer_properties=_WRITER,
                commit_properties=commit,
            )
            return
        names = change.schema.names
        # Rows that go are found by their ids, but only in the partitions where they are.
        where = f"t.image_id = s.image_id AND s.{SUPERSEDED} AND {_partitions(change.superseded)}"
        merger = table.merge(
            _reader(_marked(change), change.schema.append(pa.field(SUPERSEDED, pa.bool_()))),
            where,
            source_alias="s",
            target_alias="t",
            merge_schema=bool(missing),
            writer_properties=_WRITER,
            commit_properties=commit,
        )
        new = {name: f"s.{name}" for name in names}
        merger.when_matched_delete().when_not_matched_insert(new, f"NOT s.{SUPERSEDED}").execute()

    def _create(self, change: Change) -> DeltaTable:
        return DeltaTable.create(
            self._uri,
            change.schema,
            mode="error",
            partition_by=[PARTITION],
            name="scores",
            description=DESCRIPTION,
            configuration={OUTPUT: change.output},
            storage_options=self._options,
            raise_if_key_not_exists=False,  # of properties that are not Delta's own
        )


def _options(uri: str) -> dict[str, str]:
    """What delta-rs must be told of the store; of others than S3 it looks for itself."""
    if not uri.startswith("s3://"):
        return {}
    found = s3_settings()
    options = {
        "aws_access_key_id": found.access_key,
        "aws_secret_access_key": found.secret_key,
        "aws_session_token": found.token,
        "aws_region": found.region,
        "aws_endpoint_url": found.endpoint,
        "aws_allow_http": "true",
        "aws_conditional_put": "etag",  # what makes a commit safe: If-None-Match
    }
    return {name: value for name, value in options.items() if value}


def _reader(tables: Iterator[pa.Table], schema: pa.Schema) -> pa.RecordBatchReader:
    batches = (batch for table in tables for batch in table.to_batches())
    return pa.RecordBatchReader.from_batches(schema, batches)


def _marked(change: Change) -> Iterator[pa.Table]:
    """Rows that come and ids of rows that go, with a column that tells which."""
    for table in change.rows():
        yield table.append_column(SUPERSEDED, pa.repeat(False, len(table)))
    ids = change.superseded["image_id"]
    columns = {field.name: pa.nulls(len(ids), field.type) for field in change.schema}
    yield pa.table(columns | {"image_id": ids, SUPERSEDED: pa.repeat(True, len(ids))})


def _partitions(superseded: pa.Table) -> str:
    dates: Sequence[Any] = pc.unique(superseded[PARTITION]).to_pylist()
    given = ", ".join(f"'{date}'" for date in dates if date is not None)
    conditions = [f"t.{PARTITION} IN ({given})"] if given else []
    conditions += [f"t.{PARTITION} IS NULL"] if None in dates else []
    return f"({' OR '.join(conditions)})"
