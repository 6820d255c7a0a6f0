"""The paper's data sets and figures, to stand beside one's own.

``paper_results.csv`` holds tables 1 and 2 of Cao et al., "AdaCLIP: Adapting CLIP with Hybrid
Learnable Prompts for Zero-Shot Anomaly Detection", ECCV 2024: AUROC and max-F1 in percent, at the
level of images and of pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd

from .table import AVERAGE, aligned, dataset_averages, markdown

OURS = "this run"
METHODS = ("SAA", "WinCLIP", "DINOv2", "SAM", "APRIL-GAN", "AdaCLIP")

# Folder name → the paper's name. The order is the tables'.
DATASETS = {
    "mvtec": "MVTec",
    "visa": "VisA",
    "mpdd": "MPDD",
    "btad": "BTAD",
    "ksdd": "KSDD",
    "dagm": "DAGM",
    "dtd-synthetic": "DTD-Synthetic",
    "headct": "HeadCT",
    "brainmri": "BrainMRI",
    "br35h": "Br35H",
    "isic": "ISIC",
    "colondb": "ColonDB",
    "clinicdb": "ClinicDB",
    "tn3k": "TN3K",
}
_OTHER_SPELLINGS = {
    "mvtecad": "MVTec",
    "kolektorsdd": "KSDD",
    "dtd": "DTD-Synthetic",
    "cvccolondb": "ColonDB",
    "cvcclinicdb": "ClinicDB",
}

# Section 4.1: what is tested on MVTec AD and ColonDB was trained on VisA and ClinicDB; what is
# tested on anything else, on MVTec AD and ColonDB.
_TRAINED_ON = ("MVTec", "ColonDB")


@dataclass(frozen=True)
class Comparison:
    """One of the paper's tables with a column for this run."""

    title: str
    headers: list[str]
    rows: list[list[str]]
    """Cells are "AUROC / max-F1" in percent; empty where there is none."""


def paper_name(name: str) -> str | None:
    """The paper's name of a data set, None if it is not one of the paper's."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    known = {re.sub(r"[^a-z0-9]", "", folder): shown for folder, shown in DATASETS.items()}
    return (known | _OTHER_SPELLINGS).get(letters)


def paper_checkpoint(name: str) -> str:
    """The released weights that the paper tests a data set with: none of them saw it."""
    return "visa_clinicdb" if paper_name(name) in _TRAINED_ON else "mvtec_colondb"


@lru_cache(maxsize=1)
def paper_results() -> pd.DataFrame:
    """Columns level, domain, dataset, method, auroc, max_f1; in percent."""
    return pd.read_csv(Path(__file__).parent / "paper_results.csv")


def compare(table: pd.DataFrame) -> list[Comparison]:
    """The paper's tables for the data sets of a metrics table, as far as both have figures.

    Averages are over the rows shown, for every method.

    Args:
        table: of ``metrics_table``.
    """
    ours = dataset_averages(table)
    ours = ours.assign(dataset=ours.dataset.map(lambda name: paper_name(name) or ""))
    ours = ours.drop_duplicates("dataset")
    results = paper_results()
    found = []
    for domain in results.domain.unique():
        for level in results.level.unique():
            theirs = results[(results.level == level) & (results.domain == domain)]
            columns = {f"{level}_auroc": "auroc", f"{level}_max_f1": "max_f1"}
            mine = ours[["dataset", *columns]].dropna().rename(columns=columns)
            mine = mine[mine.dataset.isin(theirs.dataset)]
            if not mine.empty:
                mine[["auroc", "max_f1"]] *= 100
                found.append(_comparison(f"{domain} data sets, {level} level", theirs, mine))
    return found


def comparisons_as_text(comparisons: list[Comparison]) -> str:
    """For a terminal."""
    return "\n\n".join(
        f"{each.title} (AUROC / max-F1)\n{aligned(each.headers, each.rows)}" for each in comparisons
    )


def comparisons_as_markdown(comparisons: list[Comparison]) -> str:
    """For a Markdown file."""
    return "\n\n".join(
        f"## Beside the paper: {each.title}\n\nAUROC / max-F1 in percent.\n\n"
        f"{markdown(each.headers, each.rows)}"
        for each in comparisons
    )


def _comparison(title: str, theirs: pd.DataFrame, mine: pd.DataFrame) -> Comparison:
    names = [name for name in theirs.dataset.unique() if name in set(mine.dataset)]
    if len(names) < theirs.dataset.nunique():
        title += f", {len(names)} of {theirs.dataset.nunique()}"
    shown = pd.concat([theirs[theirs.dataset.isin(names)], mine.assign(method=OURS)])
    means = shown.groupby("method", as_index=False)[["auroc", "max_f1"]].mean()
    shown = pd.concat([shown, means.assign(dataset=AVERAGE)])
    figures = zip(shown.dataset, shown.method, shown.auroc, shown.max_f1, strict=True)
    cells = {(name, method): f"{auroc:.1f} / {f1:.1f}" for name, method, auroc, f1 in figures}
    methods = (*METHODS, OURS)
    rows = [[name, *(cells.get((name, m), "") for m in methods)] for name in (*names, AVERAGE)]
    return Comparison(title, ["data set", *METHODS[:-1], "AdaCLIP (paper)", OURS], rows)
