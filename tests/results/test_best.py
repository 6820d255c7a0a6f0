"""The best rows are those of the whole table, however it is cut and in whatever order it comes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.results import best
from pipeline.results.best import ALL, Best

CODES = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    {"image_id": pa.string(), "category": CODES, "score": pa.float32(), "logit": pa.float32()}
)
ORDER = ("score", "logit")


def table(count: int, seed: int) -> pd.DataFrame:
    """Few distinct scores and logits, some null, and categories of very different sizes."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "image_id": rng.permutation([f"{i:032x}" for i in range(count)]),
            "category": rng.choice(list("abcd"), count, p=(0.9, 0.06, 0.03, 0.01)),
            "score": np.where(rng.random(count) < 0.1, np.nan, rng.integers(0, 9, count) / 8),
            "logit": np.where(rng.random(count) < 0.1, np.nan, rng.integers(0, 4, count)),
        }
    )


@pytest.mark.parametrize("waiting", [1, 64, 10_000])
@pytest.mark.parametrize("per_category", [True, False])
def test_the_best_are_those_of_the_whole_table(
    monkeypatch: pytest.MonkeyPatch, per_category: bool, waiting: int
) -> None:
    monkeypatch.setattr(best, "WAITING_ROWS", waiting)
    frame = table(1_000, seed=waiting)
    found = Best(20, SCHEMA, ORDER, per_category=per_category)
    for places in np.array_split(np.arange(len(frame)), 13):
        part = frame.iloc[places]
        found.add(pa.Table.from_pandas(part, SCHEMA, preserve_index=False))
    rows, full = found.result()
    ranked = frame[frame.score.notna()].sort_values(
        [*ORDER, "image_id"], ascending=[False, False, True]
    )
    groups = ranked.groupby(ranked.category if per_category else np.full(len(ranked), ALL))
    assert list(rows.image_id) == list(groups.head(20).image_id)
    assert set(full) == {name for name, size in groups.size().items() if size >= 20}


def test_a_row_without_a_category_is_in_none() -> None:
    found = Best(2, SCHEMA, ORDER, per_category=True)
    rows = [
        {"image_id": "1", "category": None, "score": 1},
        {"image_id": "2", "category": "a", "score": 0},
    ]
    found.add(pa.Table.from_pylist(rows, SCHEMA))
    assert list(found.result()[0].image_id) == ["2"]
