"""The table of an evaluation: a row a category, averages, and its forms on terminal and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .pixels import PIXEL_METRICS

AVERAGE = "average"
IMAGE_METRICS = ("image_auroc", "image_ap", "image_max_f1")
METRICS = (*IMAGE_METRICS, *PIXEL_METRICS)
"""Names of the metrics, of image scores and then of pixels: columns of ``metrics_table``."""
ERRORS = tuple(f"{name}_error" for name in PIXEL_METRICS)
COUNTS = ("images", "abnormal", "without_mask", "lost_masks", "unusable")
COLUMNS = ("dataset", "category", *COUNTS, *METRICS, *ERRORS, "model")
HEADERS = ("I-AUROC", "I-AP", "I-F1", "P-AUROC", "P-AP", "P-F1", "AUPRO")
LEGEND = (
    "Percent. I: of image scores, P: of pixels; F1: highest over all thresholds; AUPRO: up to a "
    "false positive rate of 0.3. Averages are means over the categories that have the value."
)


def metrics_table(categories: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """All categories' rows with an average after each data set, and one over several data sets.

    Args:
        categories: by category, with ``COLUMNS`` as keys: ``images`` labelled, ``abnormal`` ones
            among them, those ``without_mask`` although abnormal (left out of the pixel metrics),
            ``lost_masks`` of those in which nothing is left of the defect (0 if missing),
            ``unusable`` images (left out of all), metrics in [0, 1] or NaN where there is nothing
            to measure, bounds of the binning error, and the model's fingerprint. None may be
            called "average".

    Returns:
        ``COLUMNS``; data sets in the order given, their categories by name. An average's metrics
        are means over the rows that have the value, its counts are sums.
    """
    rows = [{"lost_masks": 0, **row} for row in categories]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    parts = []
    for name, group in table.groupby("dataset", sort=False):
        parts += [group.sort_values("category"), _average(group, str(name))]
    averages = parts[1::2]
    if len(averages) > 1:
        parts.append(_average(pd.concat(averages), AVERAGE))
    table = pd.concat(parts, ignore_index=True)
    types = dict.fromkeys((*METRICS, *ERRORS), "float64") | dict.fromkeys(COUNTS, "int64")
    return table.astype(types)


def dataset_averages(table: pd.DataFrame) -> pd.DataFrame:
    """The average row of each data set."""
    rows = table[(table.category == AVERAGE) & (table.dataset != AVERAGE)]
    return rows.drop(columns="category").reset_index(drop=True)


def as_text(table: pd.DataFrame) -> str:
    """For a terminal: a block a data set, metrics in percent, nothing where not applicable."""
    blocks = [aligned(*_shown(rows, str(name))) for name, rows in _blocks(table)]
    return "\n\n".join([*blocks, LEGEND, *_remarks(table)])


def as_markdown(table: pd.DataFrame) -> str:
    """The same for a Markdown file."""
    blocks = [f"## {name}\n\n{markdown(*_shown(rows))}" for name, rows in _blocks(table)]
    return "\n\n".join([*blocks, LEGEND, *_remarks(table)]) + "\n"


def aligned(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns for a terminal, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for row in (headers, rule, *rows)
    )


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = [":--", *("--:" for _ in headers[1:])]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (headers, rule, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def percent(value: float) -> str:
    """A share as the paper prints it: 89.2, nothing where not applicable."""
    return "" if pd.isna(value) else f"{100 * value:.1f}"


def _average(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    average: dict[str, Any] = {"dataset": name, "category": AVERAGE}
    average |= {column: rows[column].sum() for column in COUNTS}
    average |= {column: rows[column].astype("float64").mean() for column in (*METRICS, *ERRORS)}
    models = rows.model.unique()
    average["model"] = models[0] if len(models) == 1 else ""
    return pd.DataFrame([average], columns=list(COLUMNS))


def _blocks(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """A data set each, with its categories; last the data sets' averages if there are several."""
    names = [name for name in table.dataset.unique() if name != AVERAGE]
    blocks = [(str(name), table[table.dataset == name]) for name in names]
    if len(names) > 1:
        averages = table[table.category == AVERAGE]
        blocks.append(("all data sets", averages.assign(category=averages.dataset)))
    return blocks


def _shown(rows: pd.DataFrame, first: str = "category") -> tuple[list[str], list[list[str]]]:
    counts = ["images", "abnormal", *(c for c in COUNTS[2:] if rows[c].any())]
    headers = [first, *(name.replace("_", " ") for name in counts), *HEADERS]
    lines = [
        [str(row["category"]), *(f"{row[name]:,}" for name in counts)]
        + [percent(row[name]) for name in METRICS]
        for _, row in rows.iterrows()
    ]
    return headers, lines


def _remarks(table: pd.DataFrame) -> list[str]:
    remarks = []
    rows = table[table.category != AVERAGE]
    bounds = rows[list(ERRORS)].to_numpy(dtype="float64")
    if not np.isnan(bounds).all():
        most = f"{100 * np.nanmax(bounds):.2g}"
        remarks.append(f"Binning moves no pixel metric by more than {most} percentage points.")
    if unknown := int(rows.without_mask.sum()):
        remarks.append(f"{unknown:,} abnormal images have no mask: not in the pixel metrics.")
    if lost := int(rows.lost_masks.sum()):
        remarks.append(
            f"{lost:,} of them have a mask, but their defects are thinner than a pixel at the "
            "model's size, or it is black (lost_masks.csv)."
        )
    if unusable := int(rows.unusable.sum()):
        remarks.append(f"{unusable:,} images could not be used: in none of the metrics.")
    return remarks
