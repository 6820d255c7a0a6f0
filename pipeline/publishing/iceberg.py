"""An Apache Iceberg table, through pyiceberg and whatever catalog that is configured for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan, _dataframe_to_data_files
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, TableProperties, Transaction
from pyiceberg.table import Table as Opened
from pyiceberg.types import StringType
from pyiceberg.utils.config import Config

from pipeline.config import IcebergPlace
from pipeline.errors import CannotRunError

from .settings import s3_settings
from .table import DESCRIPTION, KEYS, OUTPUT, PARTITION, PUBLISHED, Change, may_hold, of_images

ROWS_AT_ONCE = 500_000  # of the largest files; 250 MB in memory
# Of a name's least and greatest, whole instead of 16 characters: long URIs have one prefix.
_PROPERTIES = {
    "comment": DESCRIPTION,
    f"{TableProperties.METRICS_MODE_COLUMN_CONF_PREFIX}.uri": "full",
}


class Iceberg:
    """See ``table.Table``."""

    def __init__(self, place: IcebergPlace) -> None:
        """Open the table, if it is there.

        Raises:
            CannotRunError: pyiceberg knows no such catalog.
            Exception: the catalog can't be asked, as pyiceberg or what it builds on puts it.
        """
        self._catalog = _catalog(place)
        self._identifier = place.identifier
        self._table: Opened | None = None
        with suppress(NoSuchTableError, NoSuchNamespaceError):
            self._table = self._catalog.load_table(self._identifier)

    @property
    def exists(self) -> bool:
        """See ``table.Table``."""
        return self._table is not None

    @property
    def output(self) -> str | None:
        """See ``table.Table``."""
        return self._table.properties.get(OUTPUT) if self._table else None

    @property
    def published(self) -> str:
        """See ``table.Table``."""
        return self._table.properties.get(PUBLISHED, "") if self._table else ""

    def rows_of(self, uris: pa.Array) -> Iterator[pa.Table]:
        """See ``table.Table``."""
        if self._table is None:
            return
        scan = self._table.scan(selected_fields=tuple(KEYS.names))
        read = ArrowScan(self._table.metadata, self._table.io, scan.projection(), AlwaysTrue())
        for task in self._files(uris):
            yield of_images(read.to_table([task]).select(KEYS.names).cast(KEYS), uris)

    def commit(self, change: Change) -> None:
        """See ``table.Table``.

        A table that is new is there, and empty, from before its first rows come.
        """
        table = self._table = self._table or self._create(change)
        transaction = table.transaction()
        missing = [f for f in change.schema if f.name not in table.schema().column_names]
        if missing:
            with transaction.update_schema() as schema:
                schema.union_by_name(pa.schema(missing))
        write = _Writer(transaction, table)
        replaced = list(self._replaced(change.superseded, write))
        added = [file for rows in _pieces(change.rows()) for file in write(rows)]
        updates = transaction.update_snapshot()
        # Where no row goes, it is an append: who follows the table reads only what was appended.
        with updates.overwrite() if replaced else updates.fast_append() as snapshot:
            for before, after in replaced:
                snapshot.delete_data_file(before)
                added += after
            for file in added:
                snapshot.append_data_file(file)
        transaction.set_properties({OUTPUT: change.output, PUBLISHED: change.published})
        # Not tried again on top of what somebody else committed: that may be the same rows. Here
        # only, not in the catalog, so that others may go on trying.
        table.metadata.properties[TableProperties.COMMIT_NUM_RETRIES] = "0"
        transaction.commit_transaction()

    def _create(self, change: Change) -> Opened:
        self._catalog.create_namespace_if_not_exists(self._identifier[:-1])
        transaction = self._catalog.create_table_transaction(
            self._identifier, change.schema, properties={**_PROPERTIES, OUTPUT: change.output}
        )
        with transaction.update_spec() as partitions:
            partitions.add_identity(PARTITION)
        transaction.commit_transaction()
        return self._catalog.load_table(self._identifier)

    def _files(self, uris: pa.Array, dates: Sequence[Any] | None = None) -> Iterator[FileScanTask]:
        """Data files that may hold some images, of some scan dates or of all."""
        assert self._table is not None
        uri = self._table.schema().find_field("uri").field_id
        for task in self._table.scan().plan_files():
            if dates is not None and task.file.partition[0] not in dates:
                continue
            lowest, highest = (
                from_bytes(StringType(), bound) if (bound := (bounds or {}).get(uri)) else None
                for bounds in (task.file.lower_bounds, task.file.upper_bounds)
            )
            if may_hold(uris, lowest, highest):
                yield task

    def _replaced(
        self, superseded: pa.Table, write: _Writer
    ) -> Iterator[tuple[DataFile, list[DataFile]]]:
        """Data files with rows that go, and those that hold what is left of each."""
        if not len(superseded):
            return
        assert self._table is not None
        uris = pc.unique(superseded["uri"])
        uris = uris.take(pc.sort_indices(uris))
        dates = pc.unique(superseded[PARTITION]).to_pylist()
        read = ArrowScan(self._table.metadata, self._table.io, self._table.schema(), AlwaysTrue())
        for task in self._files(uris, dates):
            rows = read.to_table([task])
            left = rows.filter(pc.invert(pc.is_in(rows["image_id"], superseded["image_id"])))
            if len(left) < len(rows):
                yield task.file, list(write(left))


class _Writer:
    """Writes data files, which nothing points to until a commit names them."""

    def __init__(self, transaction: Transaction, table: Opened) -> None:
        self._metadata, self._io = transaction.table_metadata, table.io
        self._uuid, self._number = uuid4(), itertools.count()

    def __call__(self, rows: pa.Table) -> Iterator[DataFile]:
        if len(rows):
            yield from _dataframe_to_data_files(
                self._metadata, rows, self._io, self._uuid, self._number
            )


def _catalog(place: IcebergPlace) -> Catalog:
    # Read anew: pyiceberg itself looks at the environment once, when it is imported.
    settings: dict[str, Any] = dict(Config().get_catalog_config(place.catalog) or {})
    if not settings:
        variable = f"PYICEBERG_CATALOG__{place.catalog.upper()}__URI"
        raise CannotRunError(
            f"{place.uri}: pyiceberg knows no catalog {place.catalog!r}; describe it in "
            f"~/.pyiceberg.yaml, or in the environment ({variable}, ...)"
        )
    if not any(name.startswith(("s3.", "client.")) for name in settings):
        found = s3_settings()
        s3 = {
            "s3.endpoint": found.endpoint,
            "s3.region": found.region,
            "s3.access-key-id": found.access_key,
            "s3.secret-access-key": found.secret_key,
            "s3.session-token": found.token,
        }
        settings |= {name: value for name, value in s3.items() if value}
    return load_catalog(place.catalog, **settings)


def _pieces(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of ``ROWS_AT_ONCE`` or so."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= ROWS_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
