"""Checks that the settings of several commands share; each error names the flag."""

from __future__ import annotations

import math
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.redaction import holds_credential


def refuse_credentials(settings: Any) -> None:
    """Settings are kept with the results and printed, and URIs stand in every row.

    Args:
        settings: a dataclass whose fields are flags.

    Raises:
        ValueError: a text, or one of a tuple, carries a password or a signature.
    """
    for each in fields(settings):
        value = getattr(settings, each.name)
        texts = value if isinstance(value, tuple) else (value,)
        if any(isinstance(text, str) and holds_credential(text) for text in texts):
            flag = "--" + each.name.strip("_").replace("_", "-")
            raise ValueError(
                f"{flag} holds a password or a signature, which the results would repeat; give "
                "credentials through the usual environment variables, files or roles"
            )


def check_there(flag: str, value: str, *, names: str) -> None:
    """Refuse a path of this machine where nothing is.

    Args:
        flag: the flag.
        value: a path, a URI, or a name that is neither.
        names: what else the value may be, for the message; "" = nothing.
    """
    if "://" in value.removeprefix("file://"):
        return
    path = Path(value.removeprefix("file://")).expanduser()
    is_name = names and not path.suffix and len(path.parts) == 1
    if not (is_name or path.exists()):
        other = f", nor {names}" if names else ""
        raise ValueError(f"{flag} {value}: there is no such file or folder here{other}")


def check_given(flag: str, value: str) -> None:
    """Refuse an empty name, which would be the working directory."""
    if not value.strip():
        raise ValueError(f"{flag} is empty; give a folder")


def check_at_least(flag: str, value: float | None, least: int) -> None:
    """Refuse what is smaller, infinite or no number; None is not given."""
    if value is not None and not least <= value < math.inf:
        raise ValueError(f"{flag} is {value:g}; it must be at least {least}")


def check_positive(flag: str, value: float) -> None:
    """Refuse what is not above 0, infinite or no number."""
    if not 0 < value < math.inf:
        raise ValueError(f"{flag} is {value:g}; it must be a positive number")


def check_date(flag: str, value: str) -> None:
    """Refuse what is no date as partitions have it: 20261101 sorts after every one of its year."""
    try:
        exact = date.fromisoformat(value).isoformat() == value  # Python reads 20250131 as well
    except ValueError:
        exact = False
    if not exact:
        raise ValueError(f"{flag} {value!r} is not YYYY-MM-DD")
