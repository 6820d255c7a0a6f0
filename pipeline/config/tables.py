"""Where a published table is: the URIs of ``--to`` and of ``publish`` in scans.yaml."""

from __future__ import annotations

from dataclasses import dataclass

FORMS = (
    "iceberg://CATALOG/NAMESPACE/TABLE, of a catalog that pyiceberg is configured for, or delta:// "
    "before the URI of a folder, as in delta://s3://bucket/tables/scores or delta:///data/scores"
)


@dataclass(frozen=True)
class IcebergPlace:
    """A table of an Apache Iceberg catalog."""

    uri: str
    catalog: str
    """Its name in pyiceberg's configuration."""
    identifier: tuple[str, ...]
    """Namespaces, from the outermost, and the table's name."""


@dataclass(frozen=True)
class DeltaPlace:
    """A Delta Lake table."""

    uri: str
    folder: str
    """URI, or absolute path."""


Place = IcebergPlace | DeltaPlace


def table_place(uri: str) -> Place:
    """Take a table's URI apart.

    Raises:
        ValueError: it is none; the message says what one looks like.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "iceberg":
        catalog, *identifier = rest.split("/")
        if catalog and len(identifier) >= 2 and all(identifier) and "://" not in rest:
            return IcebergPlace(uri, catalog, tuple(identifier))
    elif scheme == "delta":
        store, separator, path = rest.partition("://")
        if (separator and store and path.strip("/")) or (not separator and rest.startswith("/")):
            return DeltaPlace(uri, rest)
    raise ValueError(f"{uri!r} is no table; give {FORMS}")
