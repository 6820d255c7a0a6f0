"""Names asked for that no row has: a warning, beside those that there are."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from heapq import nlargest

import pandas as pd

from pipeline.redaction import redact
from pipeline.storage import absolute_prefix

from .selection import Selection
from .table import values_of

NAMED = 5  # categories that a warning lists: those most like the one asked for
# A rule that makes a category of every key would have millions compared, 20 µs each.
MOST_COMPARED = 10_000
CALLER = 4  # levels from a warning here to who called ``scores`` or ``top``


class NothingSelectedWarning(UserWarning):
    """No row has a URI that begins with the prefix asked for, or none a category asked for."""


def warn_if_nothing_is_selected(frame: pd.DataFrame, folder: str, selection: Selection) -> None:
    """Tell of a prefix or a category that no row has, whatever else was asked for.

    Args:
        frame: the rows that were found.
        folder: the score folder.
        selection: what was asked for.
    """
    if selection.prefix is not None and not len(frame):
        _warn_of_prefix(folder, selection.prefix)
    if absent := _not_in(frame, selection.category):
        _warn_of_categories(folder, absent)


def _warn_of_prefix(folder: str, asked: str) -> None:
    prefix = Selection(prefix=asked)

    def count(files: list[str]) -> int:
        return sum(map(len, prefix.rows(folder, files, ["image_id"])))

    def read(files: list[str]) -> str:
        # Of one file, to its end: a scan that is left half-way may end the process at its exit.
        parts = list(Selection().rows(folder, files[:1], ["uri"]))
        uris = [rows["uri"][0].as_py() for rows in parts]
        return f"; one that the table has is {redact(uris[0])}" if uris else ", or any other"

    if prefix.read(folder, count):
        return
    message = f"no row has a URI that begins with {redact(absolute_prefix(asked))}"
    message += Selection().read(folder, read)
    warnings.warn(message, NothingSelectedWarning, stacklevel=CALLER)


def _not_in(frame: pd.DataFrame, asked: Sequence[str] | None) -> list[str]:
    """The categories that the rows found don't show; of rows without the column, none."""
    if asked is None or (len(frame) and "category" not in frame):
        return []
    found = {*frame["category"].unique()} if len(frame) else set()
    return sorted({*map(str, asked)} - found)


def _warn_of_categories(folder: str, absent: Sequence[str]) -> None:
    known = values_of(folder, "category")
    for name in sorted({*absent} - {*known})[:NAMED]:
        message = f"no row has the category {_shown(name)}; {_there_are(name, known)}"
        warnings.warn(message, NothingSelectedWarning, stacklevel=CALLER)


def _there_are(asked: str, known: Sequence[str]) -> str:
    if not known:
        return "the table has none"
    nearest = _nearest(asked, known[:MOST_COMPARED])
    more = f" and {len(known) - len(nearest):,} more" if len(known) > len(nearest) else ""
    return f"the table has {', '.join(map(_shown, nearest))}{more}"


def _nearest(asked: str, known: Iterable[str]) -> list[str]:
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(asked.casefold())

    def likeness(name: str) -> float:
        matcher.set_seq1(name.casefold())
        return matcher.ratio()

    return nlargest(NAMED, known, key=likeness)


def _shown(name: str) -> str:
    """For a message: another one's text, without secrets and control characters."""
    return redact(repr(name if len(name) <= 100 else name[:99] + "…"))
