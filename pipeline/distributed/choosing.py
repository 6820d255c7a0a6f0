"""One model among those whose scores an output holds, with the references of each category."""

from __future__ import annotations

import pandas as pd

from pipeline.errors import CannotRunError
from pipeline.identity import ModelIdentity, base_of, references_of


def choose_identity(
    rows: pd.DataFrame, wanted: str | None, *, found: str, none: str
) -> ModelIdentity:
    """The one model of some score rows, and of each category the references of its newest row.

    Args:
        rows: with category, model and scored_at.
        wanted: part of a fingerprint that tells one of several; where it names references, its
            category has these.
        found: begins the message, such as "s3://b/scores holds scores".
        none: what to do where there is no row.

    Raises:
        CannotRunError: not exactly one model is there; the message lists them.
    """
    models = rows["model"].astype(str)
    bases, is_wanted = models.map(base_of), models.str.contains(wanted or "", regex=False)
    chosen = bases[is_wanted].unique()
    if len(chosen) == 1:
        return _of_base(rows.assign(model=models, wanted=is_wanted)[bases == chosen[0]])
    counts = bases.value_counts(sort=False).sort_index()
    there = ", ".join(f"{model} ({count:,} images)" for model, count in counts.items())
    raise CannotRunError(
        f"{found} {len(counts)} models{': ' + there if there else ''}; "
        + ("choose one with --fingerprint" if len(counts) else none)
    )


def rows_of(rows: pd.DataFrame, identity: ModelIdentity) -> pd.DataFrame:
    """Those of some score rows, with category and model, that are of an identity."""
    of_category = rows["category"].astype(object).map(identity.of)
    chosen: pd.DataFrame = rows[rows["model"].astype(object) == of_category]
    return chosen


def _of_base(rows: pd.DataFrame) -> ModelIdentity:
    """Of the rows of one base: what is wanted, then what is newest."""
    ordered = rows.sort_values(["wanted", "scored_at"], kind="stable").dropna(subset="category")
    newest = ordered.drop_duplicates("category", keep="last")
    pairs = zip(newest["category"].astype(str), map(references_of, newest["model"]), strict=True)
    base = base_of(rows["model"].iloc[0])
    return ModelIdentity(base, {category: one for category, one in pairs if one})
