"""The score table as an Apache Iceberg or Delta Lake table: what counts, for engines of others."""

from .errors import PublishingError, require_packages
from .publish import Publication, publish

__all__ = ["Publication", "PublishingError", "publish", "require_packages"]
