"""The steps of evaluation protocols: which images of a data set the others are compared with.

Few-shot: so many good images of each category's training split. Unlabelled: the measured images
themselves, as a bucket that nobody has looked at, or a mix of them with a known share of abnormal
ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import AS_IS, EvaluateConfig
from pipeline.errors import CannotRunError
from pipeline.evaluation.protocols import FEW_SHOT, UNLABELLED

COLUMNS = ["uri", "category", "label"]
_NEEDS = {
    FEW_SHOT: "so many good ones in the training split",
    UNLABELLED: "good and abnormal ones among those that are measured",
}


@dataclass(frozen=True)
class Step:
    """One choice of images of a data set that its images are compared with."""

    protocol: str
    """``FEW_SHOT`` or ``UNLABELLED``, as the flags are called."""
    amount: float
    """Images of each category, or percent of abnormal ones; NaN: the bucket as it is."""
    seed: int | None
    """Of the choice; None where there is nothing to choose."""
    images: pd.DataFrame
    """uri, category, label (1 abnormal, 0 good)."""
    short: Mapping[str, str] = field(default_factory=dict)
    """Categories that have too few images, and how few."""

    @property
    def name(self) -> str:
        """For people and folders, such as "few-shot-4-seed-0"."""
        amount = AS_IS if np.isnan(self.amount) else f"{self.amount:g}"
        return f"{self.protocol}-{amount}" + ("" if self.seed is None else f"-seed-{self.seed}")

    def columns(self, category: str) -> dict[str, Any]:
        """What ``protocol_table`` tells of a category's choice."""
        chosen = self.images[self.images.category == category]
        return {
            "protocol": self.protocol,
            "amount": self.amount,
            "seed": self.seed,
            "chosen": len(chosen),
            "chosen_abnormal": int(chosen.label.sum()),
        }


def plan(
    config: EvaluateConfig, name: str, measured: pd.DataFrame, training: pd.DataFrame
) -> list[Step]:
    """The steps of a data set, in the order of the flags.

    Args:
        config: the job's settings.
        name: of the data set.
        measured: images that are measured: uri, category, label (1 abnormal, 0 good).
        training: of the training split, the same columns; looked at only with --few-shot.

    Raises:
        CannotRunError: for a step no category has the images.
    """
    measured, training = measured[COLUMNS], training[COLUMNS]
    steps = []
    for count in dict.fromkeys(config.few_shot):
        choose = partial(choose_good, training, count)
        steps += _steps(FEW_SHOT, count, choose, config.seeds, measured, training)
    for amount in dict.fromkeys(config.unlabelled):
        if isinstance(amount, str):
            steps.append(Step(UNLABELLED, np.nan, None, measured))
        else:
            choose = partial(choose_mix, measured, amount)
            steps += _steps(UNLABELLED, amount, choose, config.seeds, measured, measured)
    for step in steps:
        if step.images.empty:
            raise CannotRunError(
                f"no category of {name} has the images for --{step.protocol} {step.amount:g}: "
                f"{_NEEDS[step.protocol]}; leave the data set out, or the flag, or give "
                f"--unlabelled {AS_IS}"
            )
    return steps


def choose_good(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """So many good images of each category that has them: those with the smallest hashes.

    A hash is of the seed and of the URI behind what all URIs begin with, so the choice is as random
    as a hash is, but the same wherever the data set lies; a larger one holds every smaller one of
    the same seed.

    Args:
        rows: uri, category, label.
        count: images of each category.
        seed: of the choice.
    """
    rank, good = _ranks(rows, seed), rows[rows.label == 0]
    enough = good[good.groupby("category").uri.transform("size") >= count]
    parts = [_first(each, count, rank) for _, each in enough.groupby("category")]
    return pd.concat([rows[:0], *parts]).sort_index()


def choose_mix(rows: pd.DataFrame, percent: float, seed: int) -> pd.DataFrame:
    """All good images of each category, and so many abnormal ones that they are a share of all.

    Where there are too few abnormal ones, all of them and fewer good ones. Which, hashes decide, as
    in ``choose_good``.

    Args:
        rows: uri, category, label.
        percent: of abnormal images among the chosen, in [0, 100); numbers of images are rounded.
        seed: of the choice.
    """
    rank, odds, parts = _ranks(rows, seed), percent / (100 - percent), []
    for _, each in rows.groupby("category"):
        good, abnormal = each[each.label == 0], each[each.label == 1]
        wanted = round(len(good) * odds)
        if wanted > len(abnormal):
            good = _first(good, round(len(abnormal) / odds), rank)
        parts += [good, _first(abnormal, wanted, rank)]
    return pd.concat([rows[:0], *parts]).sort_index()


def _steps(
    protocol: str,
    amount: float,
    choose: Callable[[int], pd.DataFrame],
    seeds: int,
    measured: pd.DataFrame,
    there: pd.DataFrame,
) -> list[Step]:
    """A step for each seed that chooses other images, of those there, than the seeds before."""
    steps: list[Step] = []
    for seed in range(seeds):
        images = choose(seed)
        if not any(images.equals(each.images) for each in steps):
            short = _short({*measured.category} - {*images.category}, there)
            steps.append(Step(protocol, amount, seed, images, short))
    return steps


def _short(categories: set[str], there: pd.DataFrame) -> dict[str, str]:
    """What there was to choose from for some categories."""
    found = {}
    for category in sorted(categories):
        labels = there.label[there.category == category]
        good, abnormal = int((labels == 0).sum()), int(labels.sum())
        found[category] = f"images to choose from: {good:,} good, {abnormal:,} abnormal"
    return found


def _first(rows: pd.DataFrame, count: int, rank: pd.Series[str]) -> pd.DataFrame:
    """Those of the lowest rank."""
    return rows.loc[rank[rows.index].sort_values().index[:count]]


def _ranks(rows: pd.DataFrame, seed: int) -> pd.Series[str]:
    """A hash of each row, of what follows the characters that all URIs begin with."""
    ends = zip(rows.uri.min(), rows.uri.max(), strict=False) if len(rows) else ()
    shared = sum(takewhile(bool, (a == b for a, b in ends)))

    def rank(uri: str) -> str:
        return hashlib.blake2b(f"{seed}\n{uri[shared:]}".encode(), digest_size=16).hexdigest()

    return rows.uri.map(rank)
