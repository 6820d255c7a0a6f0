"""What a user can mend, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from pipeline.errors import CannotRunError
from pipeline.output.lock import LockedError
from pipeline.storage import StorageError


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns what a user can mend into one sentence."""
    try:
        yield
    except (StorageError, LockedError, ValueError, pa.ArrowException) as error:
        raise CannotRunError(f"{what}: {error}") from error
