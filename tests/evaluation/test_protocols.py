"""The table of protocols: means and spreads, published figures beside, and what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.protocols import (
    COLUMNS,
    FEW_SHOT,
    GIVEN,
    UNLABELLED,
    ZERO_SHOT,
    described,
    protocol_summary,
    protocol_table,
    protocols_as_markdown,
    protocols_as_text,
    reference_results,
)
from tests.evaluation.test_table import NO_PIXELS, category


def row(dataset: str, name: str, value: float, protocol: str, **changes: Any) -> dict[str, Any]:
    """A category beside one choice of images; all metrics have one value."""
    told = {"protocol": protocol, "amount": None, "seed": None, "reason": ""}
    told |= {"chosen": None, "chosen_abnormal": None}
    return category(dataset, name, value) | told | changes


@pytest.fixture
def table() -> pd.DataFrame:
    """Two categories: alone, beside four good images of two choices, beside the test split."""
    rows = [row("mvtec", name, value, ZERO_SHOT) for name, value in (("a", 0.5), ("b", 0.7))]
    for seed, values in enumerate(((0.8, 0.9), (0.9, 1.0))):
        for name, value in zip("ab", values, strict=True):
            rows.append(row("mvtec", name, value, FEW_SHOT, amount=4, seed=seed, chosen=4))
    rows += [row("mvtec", "a", 0.9, UNLABELLED), row("mvtec", "b", 0.7, UNLABELLED, reason="few")]
    return protocol_table(rows)


def test_a_table_has_a_row_for_each_category_and_choice(table: pd.DataFrame) -> None:
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 8
    assert table.seed.isna().tolist() == [True] * 2 + [False] * 4 + [True] * 2
    assert table.chosen.tolist()[2:6] == [4] * 4
    assert list(protocol_table(()).columns) == list(COLUMNS)


def test_means_are_over_categories_then_choices_and_spreads_over_choices(
    table: pd.DataFrame,
) -> None:
    summary = protocol_summary(table)
    assert summary.protocol.tolist() == [ZERO_SHOT, FEW_SHOT, UNLABELLED]
    assert summary.choices.tolist() == [1, 2, 1]
    assert summary.image_auroc.tolist() == pytest.approx([0.6, 0.9, 0.8])
    assert summary.image_auroc_std[1] == pytest.approx(np.std([0.85, 0.95], ddof=1))
    assert summary.image_auroc_std[[0, 2]].isna().all()


def test_what_is_not_applicable_enters_no_mean() -> None:
    rows = [row("a", "x", 0.4, ZERO_SHOT), row("a", "y", 0.8, ZERO_SHOT, **NO_PIXELS)]
    summary = protocol_summary(protocol_table(rows))
    assert summary.image_auroc[0] == pytest.approx(0.6)
    assert summary.pixel_auroc[0] == pytest.approx(0.4)


def test_published_figures_follow_the_protocol_that_they_are_of(table: pd.DataFrame) -> None:
    lines = protocols_as_markdown(table).splitlines()
    first = [line.split("|")[1].strip() for line in lines if line.startswith("| ")][2:]
    assert first[0] == "nothing, this run"
    assert first[1:3] == ["4 good images, this run", "4 good images, APRIL-GAN (CLIP ViT-L-14-336)"]
    position = first.index("unlabelled images as they are, this run")
    assert first[position + 1] == "unlabelled test images, MuSc (CLIP ViT-L-14-336 518 px)"
    assert first[-1] == "all good images, PatchCore (WideResNet-50)"
    assert len(first) == 3 + len(reference_results())
    ours = "| 4 good images, this run | 2 | 90.0 ± 7.1 | 90.0 ± 7.1 | 90.0 ± 7.1 |"
    assert any(line.startswith(ours) for line in lines)
    assert (
        "| 4 good images, SubspaceAD (DINOv2-G 672 px) |  | 98.0 |  |  |  |  | "
        "SubspaceAD repository |"
    ) in lines


def test_only_figures_of_the_same_data_set_stand_beside(table: pd.DataFrame) -> None:
    visa = protocols_as_text(table.assign(dataset="VisA"))
    assert "PatchCore" not in visa  # published none of VisA
    assert "92.6" in visa
    mine = protocols_as_text(table.assign(dataset="our parts"))
    assert "MuSc" not in mine
    assert "published" not in mine


def test_a_category_that_was_compared_with_nothing_is_named_once(table: pd.DataFrame) -> None:
    told = "mvtec, b: not compared with unlabelled images as they are, but scored by AdaCLIP alone"
    assert protocols_as_text(table).count(f"{told}: few") == 1
    assert "unusable" not in protocols_as_text(table)
    assert "errors.csv" in protocols_as_text(table.assign(unusable=1))


def test_data_sets_have_a_block_each_in_their_order() -> None:
    rows = [row("z", "x", 0.4, ZERO_SHOT), row("a", "x", 0.8, ZERO_SHOT)]
    text = protocols_as_text(protocol_table(rows))
    assert text.startswith("z\n")
    assert text.index("40.0") < text.index("\na\n") < text.index("80.0")


@pytest.mark.parametrize(
    ("protocol", "amount", "words"),
    [
        (ZERO_SHOT, np.nan, "nothing"),
        (GIVEN, np.nan, "the given references"),
        (FEW_SHOT, 1, "1 good image"),
        (FEW_SHOT, 16.0, "16 good images"),
        (UNLABELLED, np.nan, "unlabelled images as they are"),
        (UNLABELLED, 2.5, "unlabelled images, 2.5 % abnormal"),
    ],
)
def test_protocols_are_told_in_words(protocol: str, amount: float, words: str) -> None:
    assert described(protocol, amount) == words


def test_every_published_figure_is_in_percent_and_has_a_source() -> None:
    results = reference_results()
    figures = results[[name for name in results if name.endswith(("auroc", "aupro"))]]
    assert figures.shape[1] == 6
    assert figures.stack().dropna().between(50, 100).all()
    assert figures.notna().any(axis=1).all()
    assert results[["method", "references", "backbone", "source"]].notna().all(axis=None)
    assert {described(FEW_SHOT, 1), described(FEW_SHOT, 4)} < set(results.references)
