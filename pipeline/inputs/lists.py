"""Lists of images, as CSV or Parquet: what their columns are called and what their names mean."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage import absolute

LIST_SUFFIXES = (".csv", ".parquet")

# What people call the columns that a list may lack: a list without them is read without a word.
_LOOKALIKES = {
    "category": ("category", "class", "classname", "cls", "clsname", "product", "object"),
    "mask_uri": (
        *("maskuri", "maskuris", "mask", "masks", "maskpath", "maskfile", "maskurl"),
        *("gt", "gtpath", "groundtruth", "groundtruthpath", "annotation", "segmentation"),
    ),
    "split": ("split", "subset", "set", "fold", "partition"),
}

_log = logging.getLogger(__name__)


def is_list(uri: str) -> bool:
    """Whether a URI names a list, by its suffix."""
    return uri.lower().endswith(LIST_SUFFIXES)


def resolved(name: str, list_uri: str) -> str:
    """The absolute URI of a file that a list names; without a scheme, relative to the list.

    Args:
        name: ``images/a.png``, ``../a.png``, ``/data/a.png`` or ``s3://bucket/a.png``.
        list_uri: absolute URI of the list.
    """
    if "://" in name or name.startswith(("/", "~")):
        return absolute(name)
    folder = list_uri.rpartition("/")[0]
    while name.startswith(("./", "../")):  # "//" and dots further on may be part of a key
        step, _, name = name.partition("/")
        if step == ".." and not folder.rpartition("/")[0].endswith(":/"):
            folder = folder.rpartition("/")[0]
    return absolute(f"{folder}/{name}")


def spelled(names: Sequence[str], source: str) -> dict[str, str]:
    """Column names without blanks around them → as the list spells them.

    Raises:
        ValueError: two columns have the same name.
    """
    if twice := [name for name, n in Counter(name.strip() for name in names).items() if n > 1]:
        raise ValueError(f"{source} has two columns {twice[0]!r}; rename or remove one of them")
    return {name.strip(): name for name in names}


def tell_lookalikes(source: str, names: Iterable[str], wanted: Iterable[str]) -> None:
    """Warn of columns that look like one which the list lacks, and are not used.

    Args:
        source: the list.
        names: of its columns.
        wanted: names of optional columns that would be used.
    """
    names = list(names)
    for column in wanted:
        if column in names:
            continue
        for name in names:
            if "".join(filter(str.isalnum, name.lower())) in _LOOKALIKES.get(column, ()):
                _log.warning(
                    "%s: the column %r is not used; call it %r if that is what it holds",
                    source,
                    name,
                    column,
                )


def as_text(column: pa.Array, name: str, source: str) -> pa.Array:
    """A column as strings: text in any encoding of Arrow's, and whole numbers.

    Raises:
        ValueError: it holds something else, or bytes that are no UTF-8.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_floating(kind):  # whole numbers with gaps, as pandas keeps them
        whole = pc.cast(column, pa.int64(), safe=False)
        if pc.all(pc.equal(whole, column)).as_py() is not False:
            column = whole
    readable = (
        *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary),
        *(pa.types.is_integer, pa.types.is_floating, pa.types.is_null),
    )
    if not any(matches(kind) for matches in readable):
        raise ValueError(f"{source}: the column {name!r} holds {kind}; it must hold text")
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{source}: the column {name!r} holds bytes that are no UTF-8 text; write it as text"
        ) from error
