"""Pictures of an evaluation: what they show, for one category and many, with hostile names."""

from __future__ import annotations

import io
import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import precision_recall_curve, roc_auc_score

from pipeline.evaluation import image_metrics, metrics_table, plots
from pipeline.evaluation.plots import MAX_NAME, Picture, bars, curves, draw, histograms
from pipeline.evaluation.table import AVERAGE, PIXEL_METRICS

HOSTILE = "$\\frac{x}$\x1b[2J\u202e</text><script>alert(1)</script>"


def evaluated(
    categories: list[str], dataset: str = "visa", pixels: bool = True, count: int = 40
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A metrics table and the scores it is of."""
    rng = np.random.default_rng(len(categories))
    rows, scores = [], []
    for i, category in enumerate(categories):
        labels = np.arange(count) % 2
        values = (rng.random(count) / 2 + labels * rng.random() / 2).astype(np.float32)
        row = {"dataset": dataset, "category": category, "images": count, "abnormal": count // 2}
        row |= {"without_mask": 0, "unusable": 0, "model": "m", **image_metrics(values, labels)}
        row |= dict.fromkeys(PIXEL_METRICS, 0.5 + i / 100) if pixels else {}
        rows.append(row)
        columns = {"dataset": dataset, "category": category, "label": labels, "score": values}
        scores.append(pd.DataFrame(columns))
    return metrics_table(rows), pd.concat(scores, ignore_index=True)


def categories_of(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.category != AVERAGE]


def names(count: int) -> list[str]:
    return [f"part {i:02d}" for i in range(count)]


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


@pytest.fixture(scope="module")
def drawn() -> list[Picture]:
    """All pictures of one category."""
    return list(draw(*evaluated(names(1))))


@pytest.mark.parametrize(
    "count", [1, 8, *(pytest.param(n, marks=pytest.mark.slow) for n in (30, 90))]
)
def test_every_picture_is_drawn_in_both_formats(count: int, drawn: list[Picture]) -> None:
    pictures = drawn if count == 1 else list(draw(*evaluated(names(count))))
    kinds = ("curves", "histograms", "bars")
    assert [p.name for p in pictures] == [
        f"01-visa-{kind}.{form}" for kind in kinds for form in ("png", "svg")
    ]
    for picture in pictures:
        if picture.name.endswith("png"):
            image = Image.open(io.BytesIO(picture.data))
            assert min(image.size) > 200
            assert max(image.size) < 3_000
            assert len(np.unique(np.asarray(image.convert("L")))) > 10
        else:
            assert ET.fromstring(picture.data).tag.endswith("svg")
        assert len(picture.data) < 1_500_000


def test_curves_are_those_of_scikit_learn() -> None:
    table, scores = evaluated(["bolt"])
    figure = curves(categories_of(table), scores)
    roc, recall = figure.axes
    (line,) = (each for each in roc.lines if "bolt" in str(each.get_label()))
    x, y = (np.asarray(values, dtype=float) for values in line.get_data())
    auroc = roc_auc_score(scores.label, scores.score)
    assert np.trapezoid(y, x) == pytest.approx(auroc)
    assert f"bolt  {auroc:.1%}" in texts(figure)
    precision, found, _ = precision_recall_curve(scores.label, scores.score)
    x, y = (np.asarray(values, dtype=float) for values in recall.lines[0].get_data())
    assert {*zip(found.round(9), precision.round(9), strict=True)} >= {
        *zip(x.round(9), y.round(9), strict=True)
    }


def test_a_curve_of_many_images_is_thinned_and_keeps_its_area() -> None:
    table, scores = evaluated(["bolt"], count=20_000)
    line = curves(categories_of(table), scores).axes[0].lines[0]
    x, y = (np.asarray(values, dtype=float) for values in line.get_data())
    assert len(x) <= 500
    assert np.trapezoid(y, x) == pytest.approx(table.image_auroc.iloc[0], abs=1e-3)


def test_of_many_categories_the_lowest_are_named() -> None:
    table, scores = evaluated(names(30))
    rows = categories_of(table).sort_values("image_auroc")
    (legend, _) = (axes.get_legend() for axes in curves(rows, scores).axes)
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert [label.split("  ")[0] for label in labels] == [
        *rows.category[:3],
        "27 other categories",
    ]


@pytest.mark.slow
def test_more_categories_than_fit_say_so() -> None:
    table, scores = evaluated(names(90))
    assert "30 of 90 categories, the lowest AUROCs" in texts(
        histograms(categories_of(table), scores)
    )
    assert "60 of 90, the lowest" in texts(bars(categories_of(table)))


def test_bars_show_the_metrics_that_there_are() -> None:
    table, _ = evaluated(["bolt", "nut"], pixels=False)
    figure = bars(categories_of(table))
    assert [axes.get_title(loc="left").split("  ")[0] for axes in figure.axes] == [
        "I-AUROC",
        "I-F1",
    ]
    shown = texts(figure)
    for value in categories_of(table).image_auroc:
        assert f"{100 * value:.1f}" in shown


def test_nothing_to_measure_is_a_picture_too() -> None:
    table, scores = evaluated(["bolt"])
    table["image_auroc"] = table["image_ap"] = table["image_max_f1"] = np.nan
    scores["label"] = 0
    assert len(list(draw(table, scores))) == 6
    assert "nothing to measure" in texts(curves(categories_of(table), scores))
    assert len(list(draw(table, scores.head(0)))) == 6


def test_names_that_others_chose_are_text_and_short() -> None:
    table, scores = evaluated([HOSTILE, "$", "部品", "x" * 300], dataset="../$a$/<b>")
    pictures = list(draw(table, scores))
    assert {p.name for p in pictures} >= {"01-a-b-curves.png"}
    for picture in pictures:
        assert b"<script" not in picture.data
    for figure in (
        curves(categories_of(table), scores),
        histograms(categories_of(table), scores),
        bars(categories_of(table)),
    ):
        shown = texts(figure)
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "x" * (MAX_NAME - 1) + "…" in shown
        assert "x" * MAX_NAME not in shown
        assert "$\\frac{x}$" in shown


def test_a_second_drawing_is_equal_and_nothing_global_is_left_behind(
    drawn: list[Picture],
) -> None:
    before = dict(mpl.rcParams)
    assert list(draw(*evaluated(names(1)))) == drawn
    assert dict(mpl.rcParams) == before


@pytest.mark.slow
def test_pyplot_which_is_global_is_not_imported() -> None:
    code = "import sys, pipeline.evaluation.plots; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_data_set_has_its_own_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_saved", lambda figure, form: form.encode())
    (first, scores), (second, others) = (evaluated(["bolt"], name) for name in ("a", "a!"))
    rows = pd.concat([categories_of(first), categories_of(second)])
    table = metrics_table(rows.to_dict("records"))
    found = [p.name for p in draw(table, pd.concat([scores, others]))]
    assert len(set(found)) == 12
    assert {"01-a-bars.svg", "02-a-bars.svg"} <= {*found}
