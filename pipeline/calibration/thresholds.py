"""Thresholds of a model by category and measure: made from score rows, kept as JSON, applied.

A reference set is part of the model, of its own category only: thresholds of a category mean
nothing for its scores with other references. Such a category counts as one without a threshold, and
whoever applies them says so; the others keep theirs.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Literal, get_args

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from pipeline.identity import ModelIdentity, base_of, named, references_of
from pipeline.schema import require_columns
from pipeline.storage import absolute, read_object, write_object

from .limits import (
    BestF1,
    CalibrationError,
    Limit,
    check_shares,
    find_best_f1,
    find_limit,
    images_needed,
)

Measure = Literal["score", "map_max", "anomalous_area"]
Use = Literal["false_alarms", "max_f1"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds of one model by category and measure."""

    model: str
    """Fingerprint of the model whose scores these are; thresholds of another mean nothing."""
    false_alarm_rate: float
    """Wanted largest share of good images above, in (0, 1)."""
    confidence: float
    """That the share is kept, for each category and measure, in (0, 1)."""
    limits: Mapping[str, Mapping[Measure, Limit]]
    """By category and measure."""
    max_f1: Mapping[str, Mapping[Measure, BestF1]] = field(default_factory=dict)
    """By category and measure; only of categories with labelled images, good and abnormal."""
    source: str = ""
    """Where the values come from."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    references: Mapping[str, str] = field(default_factory=dict)
    """By category, the id of the reference set that its scores came from; others had none."""

    @property
    def identity(self) -> ModelIdentity:
        """The model of the scores that the thresholds are for."""
        return ModelIdentity(self.model, self.references)

    @property
    def num_needed(self) -> int:
        """Good images that a category needs for the wanted rate."""
        return images_needed(self.false_alarm_rate, self.confidence)

    @property
    def too_few(self) -> list[str]:
        """Categories whose good images are too few for the wanted rate."""
        return sorted(
            category
            for category, limits in self.limits.items()
            if any(limit.bound > self.false_alarm_rate for limit in limits.values())
        )

    def values(self, measure: Measure = "score", use: Use = "false_alarms") -> dict[str, float]:
        """Thresholds of a measure by category.

        Raises:
            CalibrationError: it was not calibrated.
        """
        chosen: Mapping[str, Mapping[Measure, Limit | BestF1]]
        chosen = self.limits if use == "false_alarms" else self.max_f1
        found = {name: each[measure].value for name, each in chosen.items() if measure in each}
        if not found:
            told = "" if use == "false_alarms" else ", by max-F1, which takes labels"
            raise CalibrationError(f"there is no threshold of {measure!r}{told}; calibrate it")
        return found

    def check_model(self, model: str) -> None:
        """Refuse to be used on another model's values.

        Raises:
            CalibrationError: names both fingerprints.
        """
        if base_of(model) != self.model:
            raise CalibrationError(
                f"these thresholds are of the model {self.model}, the scores of {model}; "
                "calibrate this model"
            )

    def check_row(self, category: str, model: str) -> None:
        """Refuse to be used on a value of another model, or of a category's other references.

        Raises:
            CalibrationError: names both fingerprints, or both reference sets.
        """
        self.check_model(model)
        own, found = self.references.get(category), references_of(model)
        if own != found:
            raise CalibrationError(
                f"the threshold of {category!r} is of scores with {named(own)}, this score is with "
                f"{named(found)}; calibrate it again"
            )

    def outdated(self, identity: ModelIdentity) -> list[str]:
        """Categories whose thresholds are of other references than a run's scores."""
        return sorted(
            category
            for category in {*self.limits, *self.max_f1}
            if self.references.get(category) != identity.references.get(category)
        )

    def without(self, categories: Sequence[str]) -> Calibration:
        """The same thresholds but for some categories."""
        return replace(
            self,
            limits={name: each for name, each in self.limits.items() if name not in categories},
            max_f1={name: each for name, each in self.max_f1.items() if name not in categories},
        )

    def statement(self, category: str, measure: Measure) -> str:
        """What the number of images allows to say, in a sentence."""
        limit = self.limits[category][measure]
        promise = (
            f"with {self.confidence:.3g} confidence at most {limit.bound:.2%} of good images "
            "are above"
        )
        if limit.bound <= self.false_alarm_rate:
            return f"{limit.num_images:,} good images: {promise}"
        return (
            f"{limit.num_images:,} good images are too few to promise "
            f"{self.false_alarm_rate:.2%}, which takes {self.num_needed:,}; {promise}"
        )


def calibrate(
    rows: pd.DataFrame,
    *,
    false_alarm_rate: float,
    confidence: float = 0.95,
    measures: Sequence[Measure] = MEASURES,
    source: str = "",
) -> Calibration:
    """Thresholds for every category of some score rows.

    Args:
        rows: of one model, and of one reference set or none in each category; with category, model
            and the measures. Without a column ``label`` all images are known to be good; with it
            (0 good, 1 abnormal), the limits are from the good ones, and there is max-F1 as well.
            Rows without a value are left out.
        false_alarm_rate: largest wanted share of good images above, in (0, 1).
        confidence: that the share is kept, in (0, 1).
        measures: which values get thresholds.
        source: kept with the result.

    Raises:
        CalibrationError: no good image has a value, there are several models or several reference
            sets of a category, or a share is none.
        ValueError: the rows lack columns.
    """
    check_shares(false_alarm_rate, confidence)
    require_columns(rows, ("category", "model", *measures))
    identity = _identity_of(rows)
    limits: dict[str, dict[Measure, Limit]] = {}
    max_f1: dict[str, dict[Measure, BestF1]] = {}
    usable = rows.dropna(subset=["category", *measures])
    for category, group in usable.groupby(usable["category"].astype(str)):
        labels = group["label"] if "label" in group else pd.Series(0, index=group.index)
        good, name = group[labels == 0], str(category)
        for measure in measures if len(good) else ():
            limit = find_limit(good[measure], false_alarm_rate, confidence)
            limits.setdefault(name, {})[measure] = limit
            if (labels == 1).any():
                best = find_best_f1(group[measure], labels)
                max_f1.setdefault(name, {})[measure] = best
    if not limits:
        raise CalibrationError("there is no good image with a score to calibrate with")
    return Calibration(
        model=identity.base,
        false_alarm_rate=false_alarm_rate,
        confidence=confidence,
        limits=limits,
        max_f1=max_f1,
        source=source,
        references={name: found for name, found in identity.references.items() if name in limits},
    )


def _identity_of(rows: pd.DataFrame) -> ModelIdentity:
    """The one model of all rows, and of each category the one reference set."""
    bases = sorted({base_of(str(model)) for model in rows["model"].dropna().unique()})
    if len(bases) > 1:
        raise CalibrationError(f"the rows are of several models ({', '.join(bases)}); choose one")
    sets: dict[str, set[str | None]] = {}
    pairs = rows[["category", "model"]].dropna().astype(str).drop_duplicates()
    for category, model in pairs.itertuples(index=False):
        sets.setdefault(category, set()).add(references_of(model))
    for category, found in sets.items():
        if len(found) > 1:
            told = ", ".join(sorted(map(named, found)))
            raise CalibrationError(f"{category!r} has scores with {told}; choose one")
    references = {category: one for category, (one,) in sets.items() if one is not None}
    return ModelIdentity("".join(bases), references)


def as_text(calibration: Calibration) -> str:
    """A table for a terminal: thresholds, what they rest on and what they promise."""
    lines = [
        f"model {calibration.model}",
        *[f"{name}: with {named(found)}" for name, found in calibration.references.items()],
        f"wanted: at most {calibration.false_alarm_rate:.3%} of good images above, with "
        f"{calibration.confidence:.3g} confidence; takes {calibration.num_needed:,} good images",
        "",
        f"{'category':<28}{'measure':<16}{'threshold':>10}{'good':>9}{'above':>7}{'at most':>10}",
    ]
    for category, limits in calibration.limits.items():
        for measure, limit in limits.items():
            lines.append(
                f"{category[:26]:<28}{measure:<16}{limit.value:>10.4f}{limit.num_images:>9,}"
                f"{limit.num_above:>7,}{limit.bound:>10.3%}"
                + ("" if limit.bound <= calibration.false_alarm_rate else "  too few images")
            )
    if calibration.max_f1:
        lines += ["", "highest F1 on the labelled images themselves"]
    for category, found in calibration.max_f1.items():
        for measure, best in found.items():
            lines.append(
                f"{category[:26]:<28}{measure:<16}{best.value:>10.4f}  F1 {best.f1:.1%}, precision "
                f"{best.precision:.1%}, recall {best.recall:.1%} of {best.num_abnormal:,} abnormal"
            )
    return "\n".join(lines)


def above(
    rows: pd.DataFrame,
    thresholds: Calibration | Mapping[str, float] | float,
    measure: Measure = "score",
) -> pd.Series:
    """Which score rows are above the threshold of their category.

    Args:
        rows: with the measure, category and, for a calibration, model.
        thresholds: a calibration, a threshold for each category, or one for all.
        measure: the column that is compared.

    Returns:
        Nullable booleans in the rows' order, <NA> where a row has no value or its category no
        threshold; as a mask, <NA> selects nothing. A threshold of other references is none; a
        warning names such categories.

    Raises:
        CalibrationError: the calibration is another model's, or has no such measure.
        ValueError: the rows lack columns.
    """
    if isinstance(thresholds, Calibration):
        require_columns(rows, (measure, "category", "model"))
        limit = _limits_of(rows, thresholds, measure)
    elif isinstance(thresholds, Mapping):
        require_columns(rows, (measure, "category"))
        limit = rows["category"].astype(object).map(thresholds.get).astype("float64")
    else:
        require_columns(rows, (measure,))
        limit = pd.Series(float(thresholds), index=rows.index)
    values = rows[measure].astype("float64")
    known = values.notna() & limit.notna()
    return (values > limit).astype("boolean").where(known)


def _limits_of(rows: pd.DataFrame, calibration: Calibration, measure: Measure) -> pd.Series:
    """The threshold of each row; NaN where its category has none, or one of other references."""
    models = rows["model"].astype(object)
    for model in models.dropna().unique():
        calibration.check_model(str(model))
    categories, values = rows["category"].astype(object), calibration.values(measure)
    limit = categories.map(values.get).astype("float64")
    other = limit.notna() & models.notna() & (models != categories.map(calibration.identity.of))
    if other.any():
        names = ", ".join(sorted(categories[other].unique()))
        warnings.warn(
            f"the thresholds of {names} are of other references than {other.sum():,} of the rows, "
            "which count as without a threshold; calibrate again",
            stacklevel=3,
        )
    return limit.mask(other)


def write_calibration(uri: str, calibration: Calibration) -> None:
    """Write thresholds as JSON, a path or URI.

    Raises:
        StorageError: it can't be written.
    """
    write_object(absolute(uri), _adapter().dump_json(calibration, indent=2))


def read_calibration(uri: str) -> Calibration:
    """Read what ``write_calibration`` wrote.

    Raises:
        StorageError: it can't be read.
        CalibrationError: it holds something else.
    """
    data, _ = read_object(absolute(uri))
    try:
        return _adapter().validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CalibrationError(f"{uri} holds no thresholds: {where} {first['msg']}") from None


@cache
def _adapter() -> TypeAdapter[Calibration]:
    return TypeAdapter(Calibration)
