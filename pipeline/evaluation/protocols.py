"""How much it helps to compare images: figures by protocol, beside published ones.

``reference_results.csv`` holds published figures of methods that compare images, over all
categories of MVTec AD and VisA: image AUROC, pixel AUROC and AUPRO in percent, each with its
source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from .paper import OURS, paper_name
from .table import COUNTS, ERRORS, METRICS, aligned, markdown, percent

ZERO_SHOT = "zero-shot"
GIVEN = "given"
FEW_SHOT = "few-shot"
UNLABELLED = "unlabelled"

SHOWN = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro")
COLUMNS = (
    *("dataset", "category", "protocol", "amount", "seed", "chosen", "chosen_abnormal", "reason"),
    *(*COUNTS, *METRICS, *ERRORS, "model"),
)
_HEADERS = ("compared with", "choices", "I-AUROC", "I-AP", "P-AUROC", "P-AP", "AUPRO", "source")
_PUBLISHED = {"MVTec": "mvtec", "VisA": "visa"}  # the paper's names → columns of the file
_LEGEND = (
    "Percent. I: of image scores, P: of pixels; AUPRO: up to a false positive rate of 0.3. Means "
    "over the categories; where images were chosen several times, mean and standard deviation over "
    "the choices."
)
_BESIDE = (
    "Lines with a source are published figures of other methods, over all categories of the data "
    "set."
)


def protocol_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The figures of each data set, category, protocol and choice of images.

    Args:
        rows: with the keys of ``metrics_table``'s rows, and besides: ``protocol``; ``amount``, the
            images of each category (few-shot) or the percentage of abnormal ones (unlabelled; NaN:
            as they are); ``seed`` of the choice or None; how many images were ``chosen`` and
            ``chosen_abnormal`` or None; and the ``reason`` why this category was compared with
            nothing, "" if it was.

    Returns:
        ``COLUMNS``, in the order given.
    """
    table = pd.DataFrame([{"lost_masks": 0, **row} for row in rows], columns=list(COLUMNS))
    types = dict.fromkeys(("amount", *METRICS, *ERRORS), "float64")
    types |= dict.fromkeys(("seed", "chosen", "chosen_abnormal"), "Int64")
    return table.astype(types | dict.fromkeys(COUNTS, "int64"))


def protocol_summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, protocol and amount of a ``protocol_table``.

    Returns:
        dataset, protocol, amount, choices (how often images were chosen), and of the metrics in
        ``SHOWN`` the mean over the choices of the means over the categories that have the value,
        and as ``<name>_std`` the standard deviation over the choices (of a sample; NaN of one).
    """
    keys, metrics = ["dataset", "protocol", "amount"], list(SHOWN)
    each = table.groupby([*keys, "seed"], sort=False, dropna=False)[metrics].mean()
    choices = each.groupby(keys, sort=False, dropna=False)
    summary: pd.DataFrame = choices.mean().join(choices.std().add_suffix("_std"))
    return summary.assign(choices=choices.size()).reset_index()


def described(protocol: str, amount: float) -> str:
    """What images are compared with, in words; of few-shot protocols the file's words."""
    if protocol == FEW_SHOT:
        return f"{amount:g} good image{'' if amount == 1 else 's'}"
    if protocol == UNLABELLED:
        told = " as they are" if pd.isna(amount) else f", {amount:g} % abnormal"
        return f"unlabelled images{told}"
    return {ZERO_SHOT: "nothing", GIVEN: "the given references"}[protocol]


def protocols_as_text(table: pd.DataFrame) -> str:
    """For a terminal: a block for each data set; nothing of an empty table."""
    blocks = [f"{name}\n{aligned(_HEADERS, lines)}" for name, lines in _blocks(table)]
    return "\n\n".join([*blocks, *_remarks(table)])


def protocols_as_markdown(table: pd.DataFrame) -> str:
    """The same for a Markdown file."""
    blocks = [f"## {name}\n\n{markdown(_HEADERS, lines)}" for name, lines in _blocks(table)]
    return "\n\n".join([*blocks, *_remarks(table)]) + "\n"


@lru_cache(maxsize=1)
def reference_results() -> pd.DataFrame:
    """Columns method, references, backbone, source, and figures of both data sets in percent."""
    return pd.read_csv(Path(__file__).parent / "reference_results.csv")


def _blocks(table: pd.DataFrame) -> list[tuple[str, list[list[str]]]]:
    summary = protocol_summary(table)
    return [
        (str(name), _lines(str(name), rows))
        for name, rows in summary.groupby("dataset", sort=False)
    ]


def _lines(name: str, rows: pd.DataFrame) -> list[list[str]]:
    """This run's rows of a data set, each followed by what was published of the same protocol."""
    published, lines = _published(name), []
    for _, row in rows.iterrows():
        said = described(row["protocol"], row["amount"])
        choices = "" if row["protocol"] in (ZERO_SHOT, GIVEN) else f"{row['choices']}"
        lines.append([f"{said}, {OURS}", choices, *(_figure(row, name) for name in SHOWN), ""])
        as_is = row["protocol"] == UNLABELLED and pd.isna(row["amount"])
        lines += published.pop("unlabelled test images" if as_is else said, [])
    return lines + [line for others in published.values() for line in others]


def _published(name: str) -> dict[str, list[list[str]]]:
    """Lines of the published figures of a data set, by what images are compared with."""
    columns = _PUBLISHED.get(paper_name(name) or "")
    found: dict[str, list[list[str]]] = {}
    for _, row in reference_results().iterrows() if columns else ():
        figures = [row[f"{columns}_{metric}"] for metric in ("image_auroc", "pixel_auroc", "aupro")]
        if pd.notna(figures).any():
            image, pixel, aupro = (percent(figure / 100) for figure in figures)
            first = f"{row['references']}, {row['method']} ({row['backbone']})"
            line = [first, "", image, "", pixel, "", aupro, str(row["source"])]
            found.setdefault(str(row["references"]), []).append(line)
    return found


def _figure(row: pd.Series, name: str) -> str:
    """97.1, or 97.1 ± 0.3 if there were several choices."""
    spread = percent(row[f"{name}_std"])
    return f"{percent(row[name])} ± {spread}" if spread else percent(row[name])


def _remarks(table: pd.DataFrame) -> list[str]:
    if table.empty:
        return []
    beside = [_BESIDE] if any(map(_published, table.dataset.unique())) else []
    without = table[table.reason != ""]
    told = {
        f"{dataset}, {category}: not compared with {described(protocol, amount)}, but scored by "
        f"AdaCLIP alone: {reason}": None
        for dataset, category, protocol, amount, reason in zip(
            *(without[n] for n in ("dataset", "category", "protocol", "amount", "reason")),
            strict=True,
        )
    }
    unusable = ["Some images could not be used (errors.csv): in none of these figures."]
    return [_LEGEND, *beside, *told, *(unusable if table.unusable.any() else [])]
