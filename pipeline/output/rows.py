"""Which row of the score table holds, where an object has several."""

from __future__ import annotations

import pandas as pd

from pipeline.identity import base_of
from pipeline.schema import FINAL_ERRORS

HELD_BY = ("image_id", "uri", "model", "category", "error", "scored_at")
"""The columns that decide."""


def rows_that_hold(frame: pd.DataFrame) -> pd.DataFrame:
    """Of score rows, one for each object, model and category: the newest, with two exceptions.

    An error that may pass, such as ``fetch_failed``, hides no score and no final error of the same
    version of the object; of a version that was never read it tells that what came before is out of
    date. And an error ends with any newer row of the same object and base model: one under a
    category that it did not have yet, or with other references.

    Args:
        frame: rows with ``HELD_BY``, of whichever columns.

    Returns:
        Those that hold, with their index, the oldest first.
    """
    frame = frame.sort_values("scored_at", kind="stable")
    final = frame["error"].isna() | frame["error"].isin([code.value for code in FINAL_ERRORS])
    frame = frame[final | ~frame["image_id"].isin(frame["image_id"][final])]
    base = frame["model"].map(base_of)
    newest = frame.groupby([frame["uri"], base], observed=True)["scored_at"].transform("max")
    frame = frame[frame["error"].isna() | (frame["scored_at"] == newest)]
    return frame.drop_duplicates(["uri", "model", "category"], keep="last")
