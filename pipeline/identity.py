"""Which model a score is of: AdaCLIP's weights and settings, and what an image was compared with.

A reference set is part of the model, of its own category only: another set for one category makes
other scores of that category, and touches no other's. So a row's model is the fingerprint of
AdaCLIP, and behind it the id of the category's reference set, if it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

NAMED = 5  # categories that a ``repr`` lists
MARK = "+refs-"  # between the fingerprint of AdaCLIP and the id of a reference set


def base_of(model: str) -> str:
    """The fingerprint of AdaCLIP in a row's model."""
    return model.partition(MARK)[0]


def references_of(model: str) -> str | None:
    """The id of the reference set in a row's model; None without one."""
    return model.partition(MARK)[2] or None


def named(references: str | None) -> str:
    """A reference set's id for people, who may have none."""
    return f"the references {references}" if references else "no references"


def rows_of(model: str) -> pc.Expression:
    """Rows of a score table that carry a model, or it and any reference set behind it."""
    column = pc.field("model").cast(pa.string())
    return (column == model) | pc.starts_with(column, f"{model}{MARK}")


@dataclass(frozen=True)
class ModelIdentity:
    """The model of a run: one fingerprint, and a reference set for some categories."""

    base: str
    """Fingerprint of AdaCLIP and the decoder."""
    references: Mapping[str, str] = field(default_factory=dict)
    """By category, the id of its reference set; ids of two categories differ."""

    def __repr__(self) -> str:
        """Of very many categories, how many have references."""
        few = len(self.references) <= NAMED
        shown = dict(self.references) if few else f"<of {len(self.references):,} categories>"
        return f"ModelIdentity(base={self.base!r}, references={shown})"

    def of(self, category: str | None) -> str:
        """What rows of a category carry as their model."""
        found = None if category is None else self.references.get(category)
        return self.base if found is None else f"{self.base}{MARK}{found}"

    @property
    def models(self) -> list[str]:
        """All that rows of this run may carry."""
        return [self.base, *(self.of(category) for category in sorted(self.references))]

    def column(self, categories: pa.Array) -> pa.Array:
        """``of`` for [n] categories (strings, null = none)."""
        with_references = pa.array([self.of(name) for name in self.references], pa.string())
        return pc.fill_null(self._chosen(categories, with_references), self.base)

    def reference_sets(self, categories: pa.Array) -> pa.Array:
        """The ids of [n] categories' reference sets; null without one."""
        return self._chosen(categories, pa.array(self.references.values(), pa.string()))

    def condition(self) -> pc.Expression:
        """Rows of a score table whose scores compare with this run's: same model, same references.

        Rows that a category got before it had references are of another model.
        """
        model, category = (pc.field(name).cast(pa.string()) for name in ("model", "category"))
        without = model == self.base
        if not self.references:
            return without
        named = category.isin(pa.array(self.references, pa.string()))
        return (without & ~named) | model.isin(pa.array(self.models[1:], pa.string()))

    def _chosen(self, categories: pa.Array, values: pa.Array) -> pa.Array:
        """Of [m] values, one for each category of ``references``, those of [n] categories."""
        return values.take(pc.index_in(categories, pa.array(self.references, pa.string())))
