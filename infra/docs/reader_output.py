"""The output that docs/readers.md reads: three nights, old files beside new ones, maps twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.anomaly_map import Q8
from pipeline.output.compaction import compact
from tests.outputs import age, scored, write

FOLDER = "s3://bucket/line-1"
NIGHTS = {"2026-11-21": (4, 1), "2026-11-22": (3, 1), "2026-11-23": (3, 1)}
"""Scores and errors of each night."""
WITH_LOGIT = ("2026-11-22", "2026-11-23")
"""Nights whose version knows the column ``score_logit``."""
SIDE = 37  # patches at 518 px


def make(folder: Path) -> None:
    """Write ``folder/scores``.

    The files of the first night are of an older version and come first by name. Of the second,
    which two runs wrote, the score files were compacted and the old map shards are still there.
    """
    output = str(folder / "scores")
    rows = {night: [_row(night, i) for i in range(sum(NIGHTS[night]))] for night in NIGHTS}
    first, second, third = rows
    write(output, rows[second][:2], second, run_id="a")
    write(output, rows[second][2:], second, run_id="b")
    compact(output, before=third)
    write(output, rows[first], first)
    age(output, first)
    write(output, rows[third], third)


def grids() -> dict[str, list[float]]:
    """The true logits of every image that has a score, by URI, row by row."""
    numbers = [_number(night, i) for night in NIGHTS for i in range(NIGHTS[night][0])]
    return {f"{FOLDER}/{i}.jpg": (_grid(i) / Q8).tolist() for i in numbers}


def _number(night: str, i: int) -> int:
    return 10 * list(NIGHTS).index(night) + i


def _row(night: str, i: int) -> dict[str, Any]:
    number = _number(night, i)
    if i >= NIGHTS[night][0]:
        return scored(FOLDER, number, None)
    score = 0.5 + number / 60
    return scored(FOLDER, number, score) | {
        "score_logit": float(np.log(score / (1 - score))),
        "logit_grid_q8": _grid(number),
        "grid_height": SIDE,
        "grid_width": SIDE,
    }


def _grid(number: int) -> NDArray[np.int16]:
    """As smooth as a real one, in steps that half floats hold, too."""
    steps = np.random.default_rng(number).integers(-40, 41, SIDE * SIDE)
    return np.clip(np.cumsum(steps), -7 * Q8, 7 * Q8).astype(np.int16)
