"""Score tables of invented rows, which compress as real ones do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.identity import ModelIdentity
from pipeline.output.ledger import image_ids
from pipeline.schema import SCORE_SCHEMA

IDENTITY = ModelIdentity("benchmark")


def score_rows(known: dict[str, Any], random: np.random.Generator) -> pa.Table:
    """Rows of ``SCORE_SCHEMA``.

    Args:
        known: columns, among them uri, etag and category; others are drawn, or null.
        random: draws them.
    """
    size = len(known["uri"])
    digits = image_ids(known["uri"], known["etag"], IDENTITY, known["category"]).tobytes().hex()
    logits = random.normal(-4, 1.6, size).astype(np.float32)
    made: dict[str, Any] = {
        "image_id": [digits[i : i + 32] for i in range(0, len(digits), 32)],
        "model": IDENTITY.column(known["category"]),
        "score": 1 / (1 + np.exp(-logits)),
        "score_logit": logits,
        "size": random.integers(1 << 20, size=size),
        "map_row": np.arange(size),
    }
    for name in ("map_max", "anomalous_area"):
        made[name] = random.random(size, dtype=np.float32)
    for name in ("box_x0", "box_y0", "box_x1", "box_y1", "width", "height"):
        made[name] = random.integers(4096, size=size)
    columns = made | known
    arrays = [
        pa.array(columns[field.name]).cast(field.type)
        if field.name in columns
        else pa.nulls(size, field.type)
        for field in SCORE_SCHEMA
    ]
    return pa.table(arrays, schema=SCORE_SCHEMA)
