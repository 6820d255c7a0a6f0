"""Packages that only some formats need, and what to say where they are not installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, Literal

Extra = Literal["formats", "dicom"]
PACKAGES: dict[Extra, tuple[str, ...]] = {
    "formats": ("tifffile", "imagecodecs"),
    "dicom": ("pydicom", "pylibjpeg", "openjpeg"),
}


_INSTALL = 'pip install "adaclip-pipeline[{}]"'


class MissingExtraError(Exception):
    """A package is needed that comes with an extra; the message is how to install it."""

    def __init__(self, *extras: Extra) -> None:
        super().__init__(_INSTALL.format(",".join(extras)))


def module(name: str, *extras: Extra) -> Any:
    """A module of an extra.

    Raises:
        MissingExtraError: it is not installed; names ``extras``.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(*extras) from None


def installed() -> list[Extra]:
    """Those that this Python has whole."""
    return [extra for extra, names in PACKAGES.items() if all(map(find_spec, names))]


def satisfied(extras: Iterable[Extra]) -> str | None:
    """A regular expression for messages that name no other extras than these; None for none."""
    one = "|".join(extras)
    return _INSTALL.replace("[{}]", rf"\[({one})(,({one}))*\]") if one else None
