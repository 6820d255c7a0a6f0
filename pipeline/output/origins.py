"""Which score files a compacted one repeats: who took those rows elsewhere needs none of it.

A compacted file whose rows are, one by one, those of the files that it replaced names these in its
footer, with the files that those replaced in their turn.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from typing import Any

import pyarrow as pa

from pipeline.schema import VERSION

KEY = b"adaclip.repeats"

Origins = Mapping[str, Any]
"""Names of score files, relative to the score folder, each with the origins of its own."""


def with_origins(rows: pa.Table, origins: Origins) -> pa.Table:
    """Rows that tell, once they are written, of which files they are."""
    told: dict[Any, Any] = {**VERSION, KEY: json.dumps(origins).encode()}
    return rows.replace_schema_metadata(told)


def origins_in(schema: pa.Schema) -> Origins:
    """What the schema of a score file tells; nothing of one that no compaction made.

    Raises:
        ValueError: it is damaged.
    """
    found: Origins = json.loads((schema.metadata or {}).get(KEY, b"{}"))
    return found


def is_repeated(origins: Origins, known: Container[str]) -> bool:
    """Whether every row of a score file with these origins is one of known files, by name."""
    return bool(origins) and all(
        name in known or is_repeated(before, known) for name, before in origins.items()
    )
