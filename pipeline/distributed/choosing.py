"""One model among those whose scores an output holds."""

from __future__ import annotations

import pandas as pd

from .errors import CannotRunError


def choose_model(models: pd.Series, wanted: str | None, *, found: str, none: str) -> str:
    """The one model of some score rows.

    Args:
        models: of each row, its model's fingerprint.
        wanted: part of the fingerprint that tells one of several.
        found: begins the message, such as "s3://b/scores holds scores".
        none: what to do where there is no row.

    Raises:
        CannotRunError: not exactly one model is there; the message lists them.
    """
    counts = models.astype(str).value_counts(sort=False).sort_index()
    chosen = [model for model in counts.index if (wanted or "") in model]
    if len(chosen) == 1:
        return str(chosen[0])
    there = ", ".join(f"{model} ({count:,} images)" for model, count in counts.items())
    raise CannotRunError(
        f"{found} {len(counts)} models{': ' + there if there else ''}; "
        + ("choose one with --model" if len(counts) else none)
    )
