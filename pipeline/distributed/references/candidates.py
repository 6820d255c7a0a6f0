"""Which images of each category may become references: a repeatable choice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import ScoreConfig
from pipeline.identity import ModelIdentity
from pipeline.inputs.manifest import Manifest, pending_images
from pipeline.output.ledger import IdSet
from pipeline.schema import MANIFEST_SCHEMA


@dataclass(frozen=True)
class Candidates:
    """Images of one category that may become references."""

    num_images: int
    """That are listed."""
    rows: pa.Table
    """``schema.MANIFEST_SCHEMA`` of those that are looked at, in the order of their hash."""


def choose(config: ScoreConfig, most: int, *, keep_index: bool = False) -> dict[str, Candidates]:
    """Images of each category, at most so many: those with the smallest hashes.

    So the choice is repeatable and as random as a hash is, whatever the order of the listing.

    Args:
        config: inputs and the category rule.
        most: images of a category.
        keep_index: as of ``pending_images``; for who holds the lock of ``config.output``.

    Raises:
        StorageError: an input can't be listed.
        ValueError: an input list can't be used.
    """
    counts: Counter[str] = Counter()
    kept: dict[str, pa.Table] = {}
    # The hash is of URI, version and category, whatever the model.
    all_of_them, none = replace(config, limit=None), ModelIdentity("")
    listed = pending_images(all_of_them, none, IdSet(), Manifest(""), keep_index=keep_index)
    for rows in listed:
        rows = rows.filter(pc.is_null(rows["error"]))
        for category in pc.unique(rows["category"]).to_pylist():
            chosen = rows.filter(pc.equal(rows["category"], category))
            counts[category] += len(chosen)
            before = kept.get(category, MANIFEST_SCHEMA.empty_table())
            both = pa.concat_tables([before, chosen]).sort_by("image_id")
            kept[category] = both.slice(0, most).combine_chunks()
    return {name: Candidates(counts[name], kept[name]) for name in sorted(kept)}
