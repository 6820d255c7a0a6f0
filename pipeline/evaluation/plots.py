"""Pictures of an evaluation: ROC and precision-recall curves, score histograms, bars.

Matplotlib's object-oriented interface only, so that nothing global is left behind. Names of data
sets and categories are untrusted: never taken for mathematical text, without control characters,
and shortened.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from .table import AVERAGE, HEADERS, METRICS

FORMATS = ("png", "svg")
DPI = 120
MAX_NAME = 24  # characters of a name
MAX_COLOURED = 8  # curves that a reader tells apart; of more, the lowest are named
NAMED_OF_MANY = 3
MAX_PANELS = 30
MAX_BARS = 60
MAX_POINTS = 500  # of a curve: finer than its width in pixels
BINS = np.linspace(0, 1, 31)

# Colours of P. Tol, "Colour Schemes" (SRON/EPS/TN/09-002): bright, told apart by colour-blind eyes.
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bb5500", "#444444")
GOOD, ABNORMAL, MANY = "#4477aa", "#ee6677", "#bbbbbb"

_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "adaclip",  # the same picture, the same bytes
}


class Picture(NamedTuple):
    """One picture in one format."""

    name: str
    """Such as 01-visa-curves.png."""
    data: bytes


def draw(table: pd.DataFrame, scores: pd.DataFrame) -> Iterator[Picture]:
    """All pictures of an evaluation, one at a time.

    Args:
        table: of ``metrics_table``.
        scores: one row a usable image: dataset, category, label (1 abnormal, 0 good), score.
    """
    names = [name for name in table.dataset.unique() if name != AVERAGE]
    for number, name in enumerate(names, 1):
        rows = table[(table.dataset == name) & (table.category != AVERAGE)]
        images = scores[scores.dataset == name]
        slug = re.sub(r"[^A-Za-z0-9]+", "-", str(name)).strip("-")[:MAX_NAME].lower()
        kinds: dict[str, Callable[[], Figure]] = {
            "curves": lambda rows=rows, images=images: curves(rows, images),  # type: ignore[misc]
            "histograms": lambda rows=rows, images=images: histograms(rows, images),  # type: ignore[misc]
            "bars": lambda rows=rows: bars(rows),  # type: ignore[misc]
        }
        for kind, make in kinds.items():
            style: Any = {**mpl.rcParamsDefault, **_STYLE}  # whatever a matplotlibrc says
            with mpl.rc_context(style):
                figure = make()
                for each in FORMATS:
                    yield Picture(f"{number:02d}-{slug}-{kind}.{each}", _saved(figure, each))
                    figure.set_layout_engine()  # all is in its place, which takes half the time


def curves(rows: pd.DataFrame, images: pd.DataFrame) -> Figure:
    """ROC and precision-recall curves of the categories of one data set.

    Args:
        rows: its categories' metrics.
        images: its images' dataset, category, label and score.
    """
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    figure.suptitle(f"{_shown(rows.dataset.iloc[0])}: image scores", fontweight="bold")
    roc, recall = figure.subplots(1, 2)
    measurable = rows.dropna(subset=["image_auroc"]).sort_values("image_auroc")
    many = len(measurable) > MAX_COLOURED
    named = list(measurable.category[: NAMED_OF_MANY if many else MAX_COLOURED])
    for row in measurable[::-1].itertuples():
        chosen = images[images.category == row.category]
        false, true, precision = _operating_points(
            chosen.score.to_numpy(), chosen.label.to_numpy() == 1
        )
        style: dict[str, Any] = {"color": MANY, "linewidth": 0.8}
        labels: tuple[str | None, str | None] = (None, None)
        if row.category in named:
            style = {"color": COLOURS[named.index(row.category)], "linewidth": 1.8}
            shown = _shown(row.category)
            labels = (f"{shown}  {row.image_auroc:.1%}", f"{shown}  {row.image_ap:.1%}")
        roc.plot(false, true, label=labels[0], **style)
        recall.plot(true[1:], precision[1:], label=labels[1], **style)
    if many:
        others = f"{len(measurable) - len(named)} other categories"
        for axes in (roc, recall):
            axes.plot([], [], color=MANY, linewidth=0.8, label=others)
    roc.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    mean = f"mean {measurable.image_auroc.mean():.1%}" if len(measurable) else "nothing to measure"
    _label(roc, f"ROC, AUROC ({mean})", "good images above (false alarms)", "abnormal images found")
    mean = f"mean {measurable.image_ap.mean():.1%}" if len(measurable) else "nothing to measure"
    _label(recall, f"Precision and recall, AP ({mean})", "abnormal images found", "precision")
    for axes in (roc, recall):
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        place: Literal["lower right", "lower left"]
        place = "lower right" if axes is roc else "lower left"
        _reversed_legend(axes, place, "lowest of the categories" if many else None)
    return figure


def histograms(rows: pd.DataFrame, images: pd.DataFrame) -> Figure:
    """Scores of good and abnormal images, a panel a category; the lowest AUROCs if many."""
    chosen = rows
    if len(rows) > MAX_PANELS:
        chosen = rows.sort_values("image_auroc").head(MAX_PANELS).sort_values("category")
    columns = min(5, max(1, math.ceil(math.sqrt(len(chosen)))))
    lines = math.ceil(len(chosen) / columns)
    size = (max(6.5, 2.6 * columns), max(4.0, 1.9 * lines + 0.9))
    figure = Figure(figsize=size, layout="constrained")
    title = f"{_shown(rows.dataset.iloc[0])}: scores of good and abnormal images"
    if len(chosen) < len(rows):
        title += f" ({len(chosen)} of {len(rows)} categories, the lowest AUROCs)"
    figure.suptitle(title, fontweight="bold")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    aurocs = chosen.image_auroc.to_numpy(dtype="float64")
    for axes, name, value in zip(panels, chosen.category, aurocs, strict=False):
        here = images[images.category == name]
        for label, colour in ((0, GOOD), (1, ABNORMAL)):
            values = here.score[here.label == label].to_numpy()
            if len(values):
                axes.hist(
                    values, BINS, weights=np.full(len(values), 1 / len(values)),
                    color=colour, alpha=0.55, edgecolor=colour, histtype="stepfilled",
                )  # fmt: skip
        auroc = "" if np.isnan(value) else f"  {value:.1%}"
        axes.set_title(f"{_shown(name)}{auroc}", fontsize=8, loc="left")
        axes.set(xlim=(0, 1), yticks=[])
        axes.grid(visible=False)
    for axes in panels[len(chosen) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(chosen) - columns) : len(chosen)]:
        axes.tick_params(labelbottom=True)  # also where an empty place is below
    shapes = [
        mpl.patches.Patch(color=colour, alpha=0.55, label=label)
        for label, colour in (("good", GOOD), ("abnormal", ABNORMAL))
    ]
    figure.legend(
        handles=shapes,
        loc="outside lower center",
        ncols=2,
        title="score; heights are shares of the images of a kind; beside the name: AUROC",
        title_fontsize=8,
    )
    return figure


def bars(rows: pd.DataFrame) -> Figure:
    """Metrics of every category of one data set, the lowest image AUROC first."""
    chosen = rows.sort_values("image_auroc", ascending=False).tail(MAX_BARS)
    shown = {
        header: metric
        for header, metric in zip(HEADERS, METRICS, strict=True)
        if metric in ("image_auroc", "image_max_f1", "pixel_auroc", "pixel_aupro")
        and chosen[metric].notna().any()
    }
    height = max(2.6, 0.26 * len(chosen) + 1.3)
    figure = Figure(figsize=(2.6 + 2.1 * max(1, len(shown)), height), layout="constrained")
    title = f"{_shown(rows.dataset.iloc[0])}: metrics by category, percent"
    if len(chosen) < len(rows):
        title += f" ({len(chosen)} of {len(rows)}, the lowest)"
    figure.suptitle(title, fontweight="bold")
    panels = figure.subplots(1, max(1, len(shown)), squeeze=False, sharey=True).ravel()
    positions = np.arange(len(chosen))
    for axes, (header, metric), colour in zip(panels, shown.items(), COLOURS, strict=False):
        values = 100 * chosen[metric].to_numpy(dtype="float64")
        axes.barh(positions, np.nan_to_num(values), height=0.72, color=colour, alpha=0.85)
        for position, value in zip(positions, values, strict=True):
            text, place = ("–", 1.0) if np.isnan(value) else (f"{value:.1f}", value + 1.5)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}
            axes.text(place, position, text, va="center", fontsize=7.5, bbox=box)
        mean = float(np.nanmean(values))
        axes.axvline(mean, color="#333333", linewidth=0.9, linestyle="--")
        axes.set_title(f"{header}  (mean {mean:.1f})", fontsize=9, loc="left")
        axes.set(xlim=(0, 114), xticks=range(0, 101, 25))
        axes.grid(visible=False, axis="y")
    panels[0].set_yticks(positions, [_shown(name) for name in chosen.category])
    panels[0].set_ylim(-0.6, len(chosen) - 0.4)
    return figure


def _operating_points(
    scores: NDArray[np.floating], is_abnormal: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rate and precision [k] at every distinct score, highest first."""
    values, group = np.unique(scores, return_inverse=True)
    positives = np.bincount(group[is_abnormal], minlength=len(values))[::-1].cumsum()
    negatives = np.bincount(group[~is_abnormal], minlength=len(values))[::-1].cumsum()
    true, false = np.concatenate([[0], positives]), np.concatenate([[0], negatives])
    if len(true) > MAX_POINTS:  # evenly along the curve, with both ends
        along = true / max(true[-1], 1) + false / max(false[-1], 1)
        kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], MAX_POINTS)))
        true, false = true[kept], false[kept]
    precision = true / np.maximum(true + false, 1)
    return false / max(false[-1], 1), true / max(true[-1], 1), precision


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _reversed_legend(
    axes: Axes, place: Literal["lower right", "lower left"], title: str | None
) -> None:
    """The lowest last drawn, so that it lies on top, and first named."""
    handles, labels = axes.get_legend_handles_labels()
    others = len(labels) - 1 if title else len(labels)
    order = [*reversed(range(others)), *range(others, len(labels))]
    if order:
        axes.legend([handles[i] for i in order], [labels[i] for i in order], loc=place,
                    fontsize=8, title=title, title_fontsize=8)  # fmt: skip


def _shown(name: object) -> str:
    """A name that others chose, for a picture."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(name))
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + "…"


def _saved(figure: Figure, kind: str) -> bytes:
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # "$" in a name is a dollar
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # drawn as a box
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()
