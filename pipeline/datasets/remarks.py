"""What is odd about data to train on, in words: said before the first step, and in the model card.

Nothing here ends a run. Data sets are odd for good reasons, too, such as a set of polyps that has
no picture without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from .auxiliary import Auxiliary
from .contents import Contents, contents_of, defects_in
from .folders import word

_LABELS = ("good", "abnormal")


class Remarks(NamedTuple):
    """What was found."""

    lines: list[str]
    """A sentence each."""
    empty_masks: list[str]
    """URIs of the abnormal images that were looked at and whose masks are black."""


def remarks_on(data: Auxiliary) -> Remarks:
    """Look at labels and names, at some masks, and at the contents of files.

    Takes one listing of each data set, and reads at most ``contents.MAX_MASKS`` masks of each kind
    and ``contents.MAX_COMPARED`` images, so that it ends within minutes for any number of images.
    """
    rows = data.rows.to_pandas()
    abnormal = rows[(rows.label == 1) & rows.mask_uri.notna()]
    masks = {
        uri: [first, *([] if more is None else more)]
        for uri, first, more in zip(
            abnormal.uri, abnormal.mask_uri, abnormal.more_mask_uris, strict=True
        )
    }
    shown = defects_in(masks)
    lines = [
        *spelling_remarks(data.rows),
        *label_remarks(data.rows),
        *empty_mask_remarks(shown, len(masks)),
        *sound_mask_remarks(defects_in(data.sound_masks), data.sound_masks),
    ]
    contents = contents_of([*part.uri] for _, part in _all_rows(data).groupby("dataset"))
    return Remarks([*lines, *duplicate_remarks(data, contents)], _where(shown, False))


def spelling_remarks(rows: pa.Table) -> list[str]:
    """Categories that differ in case, spaces and signs only.

    Args:
        rows: with a column ``category``.
    """
    counts = rows.to_pandas().category.value_counts()
    spelled: dict[str, list[str]] = {}
    for name in counts.index:
        spelled.setdefault(word(name), []).append(name)
    return [
        f"a category is spelled {_and(f'{name!r} ({counts[name]:,} images)' for name in names)}: "
        "the model is told different names; rename one, unless two products are meant"
        for names in spelled.values()
        if len(names) > 1
    ]


def label_remarks(rows: pa.Table) -> list[str]:
    """Images of one kind only, in all or in a category.

    Args:
        rows: with the columns ``dataset``, ``category`` and ``label``.
    """
    frame = rows.to_pandas()
    kinds = frame.label.unique()
    if len(kinds) == 1:
        return [
            f"all {len(frame):,} images are {_LABELS[kinds[0]]}: a model that calls everything "
            f"{_LABELS[kinds[0]]} has learned all there is; add images of the other kind"
        ]
    groups = frame.groupby(["dataset", "category"], sort=False).label.agg(["nunique", "first"])
    lines = []
    for label, kind in enumerate(_LABELS):
        only = groups[(groups["nunique"] == 1) & (groups["first"] == label)]
        if len(only):
            named = [f"{category} of {dataset}" for dataset, category in only.index]
            lines.append(
                f"{len(only):,} categories have {kind} images only, such as {named[0]}: what tells "
                "good from abnormal is learned from the others"
            )
    return lines


def empty_mask_remarks(shown: Mapping[str, bool], masked: int) -> list[str]:
    """Abnormal images whose masks are black.

    Args:
        shown: ``defects_in`` the masks of abnormal images.
        masked: abnormal images with masks, looked at or not.
    """
    if not (empty := _where(shown, False)):
        return []
    return [
        f"{len(empty):,} abnormal images{_among(len(shown), masked)} have an empty mask, such as "
        f"{empty[0]}: they train the image score only, as if they had none (lost_masks.txt); "
        "export the masks again, or label the images good"
    ]


def sound_mask_remarks(shown: Mapping[str, bool], masks: Mapping[str, Sequence[str]]) -> list[str]:
    """Good images with a mask that shows a defect.

    Args:
        shown: ``defects_in`` the masks of good images.
        masks: URIs of the masks, of all good images that have some.
    """
    if not (odd := _where(shown, True)):
        return []
    return [
        f"{len(odd):,} good images{_among(len(shown), len(masks))} have a mask that is not empty, "
        f"such as {odd[0]} with {masks[odd[0]][0]}: the mask is not used, and they train as good "
        "ones; correct the labels, or remove the masks"
    ]


def duplicate_remarks(data: Auxiliary, contents: Contents) -> list[str]:
    """Images that are there twice: trained on and held out, in both splits, or with both labels.

    Args:
        contents: of the files of ``data``.
    """
    rows = _all_rows(data)
    rows = rows.assign(key=rows.uri.map(contents.keys)).dropna(subset="key")
    rows = rows[rows.key.duplicated(keep=False)]
    twice = {
        "label": "are there with the labels good and abnormal",
        "part": "are trained on and held out: the held-out loss says less than it seems",
        "split": "are in both splits: figures of the other one will be too good",
    }
    lines = []
    for column, what in twice.items():
        groups = rows.dropna(subset=column).groupby("key")
        pairs = [group for _, group in groups if group[column].nunique() > 1]
        if pairs:
            first = pairs[0].drop_duplicates(column).uri
            lines.append(
                f"{len(pairs):,} images {what}, such as {_and(list(first)[:2])}; remove one"
            )
    if contents.unknown:
        lines.append(
            f"{contents.unknown:,} images could not be compared with others by their contents: "
            "members of shards, too many or too large files of equal size, or not listed"
        )
    return lines


def _all_rows(data: Auxiliary) -> pd.DataFrame:
    """Images of all splits: uri, label, dataset, split, and the part that they have in training."""
    rows: pd.DataFrame = data.rows.to_pandas()
    rows = rows.assign(part=rows.held_out.map({True: "held out", False: "trained on"}))
    columns = ["uri", "label", "dataset", "split", "part"]
    others: pd.DataFrame = data.others.to_pandas().reindex(columns=columns)
    return pd.concat([rows[columns], others], ignore_index=True)


def _where(shown: Mapping[str, bool], wanted: bool) -> list[str]:
    return [uri for uri, each in shown.items() if each == wanted]


def _among(looked_at: int, every: int) -> str:
    return "" if looked_at == every else f" of {looked_at:,} looked at among {every:,}"


def _and(words: Iterable[str]) -> str:
    return " and ".join(words)
