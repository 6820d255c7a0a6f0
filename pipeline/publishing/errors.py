"""What can go wrong with a table, in a sentence; and packages that may be missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from pipeline.config import IcebergPlace, Place
from pipeline.errors import CannotRunError, ExpectedError
from pipeline.redaction import redact


class PublishingError(ExpectedError):
    """The table can't be read or written, or is none of this output's; it is as it was."""


def require_packages(place: Place) -> None:
    """See to it that the package that writes such tables is installed.

    Raises:
        CannotRunError: it isn't; names the extra.
    """
    package, extra = (
        ("pyiceberg", "iceberg") if isinstance(place, IcebergPlace) else ("deltalake", "delta")
    )
    if find_spec(package) is None:
        raise CannotRunError(
            f'{place.uri} needs {package}: pip install "adaclip-pipeline[{extra}]"'
        )


@contextmanager
def told(place: Place) -> Iterator[None]:
    """Turns what the tables' packages raise, which share no class, into ``PublishingError``."""
    try:
        yield
    except (ExpectedError, CannotRunError):
        raise
    except Exception as error:
        # delta-rs gives a cause a line, each with an arrow, in colours.
        text = re.sub(r"\x1b\[[\d;]*m|↳", "", str(error))
        lines = [line.strip() for line in text.splitlines()]
        message = ": ".join(filter(None, lines)) or type(error).__name__
        raise PublishingError(redact(f"{place.uri}: {message}")) from error
