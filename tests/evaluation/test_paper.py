"""The paper's figures beside one's own."""

from __future__ import annotations

import pytest

from pipeline.evaluation import compare, metrics_table, paper_checkpoint, paper_name, paper_results
from pipeline.evaluation.paper import (
    DATASETS,
    METHODS,
    comparisons_as_markdown,
    comparisons_as_text,
)
from tests.evaluation.test_table import NO_PIXELS, category


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("mvtec", "MVTec"),
        ("MVTec AD", "MVTec"),
        ("dtd_synthetic", "DTD-Synthetic"),
        ("CVC-ClinicDB", "ClinicDB"),
        ("KolektorSDD", "KSDD"),
        ("our parts", None),
    ],
)
def test_data_sets_are_recognised_by_name(given: str, name: str | None) -> None:
    assert paper_name(given) == name


def test_every_data_set_of_the_tables_has_a_folder_name() -> None:
    results = paper_results()
    assert set(results.dataset) == set(DATASETS.values())
    assert set(results.method) == set(METHODS)
    assert results[["auroc", "max_f1"]].stack().between(1, 100).all()
    assert results.groupby(["level", "dataset"]).size().eq(len(METHODS)).all()


def test_no_data_set_is_tested_with_weights_that_saw_it() -> None:
    for folder, name in DATASETS.items():
        trained_on = paper_checkpoint(folder).split("_")
        assert name.lower() not in trained_on
    assert paper_checkpoint("mvtec") == paper_checkpoint("ColonDB") == "visa_clinicdb"
    assert paper_checkpoint("our parts") == "mvtec_colondb"


def test_figures_stand_beside_the_papers() -> None:
    table = metrics_table(
        [
            category("visa", "pcb", 0.9),
            category("visa", "cashew", 0.7),
            category("MVTec AD", "bottle", 0.5),
            category("our parts", "bolt", 0.5),
        ]
    )
    image, pixel = compare(table)
    assert image.title == "industrial data sets, image level, 2 of 7"
    assert pixel.title == "industrial data sets, pixel level, 2 of 7"
    assert image.headers[0] == "data set"
    assert image.headers[-2:] == ["AdaCLIP (paper)", "this run"]
    rows = {row[0]: row[1:] for row in image.rows}
    assert list(rows) == ["MVTec", "VisA", "average"]
    assert rows["MVTec"][-2:] == ["89.2 / 90.6", "50.0 / 50.0"]
    assert rows["VisA"][-2:] == ["85.8 / 83.1", "80.0 / 80.0"]
    # Of the same data sets for all methods: (89.2 + 85.8) / 2, (90.6 + 83.1) / 2.
    assert rows["average"][-2:] == ["87.5 / 86.8", "65.0 / 65.0"]


def test_only_levels_that_both_have_are_compared() -> None:
    medical = metrics_table(
        [category("headct", "head", 0.5, **NO_PIXELS), category("tn3k", "thyroid", 0.5)]
    )
    image, pixel = compare(medical)
    assert [row[0] for row in image.rows] == ["HeadCT", "average"]
    assert [row[0] for row in pixel.rows] == ["TN3K", "average"]
    assert compare(metrics_table([category("our parts", "bolt", 0.5)])) == []


def test_comparisons_read_well_on_terminal_and_in_markdown() -> None:
    comparisons = compare(metrics_table([category("br35h", "brain", 0.5, **NO_PIXELS)]))
    text = comparisons_as_text(comparisons)
    assert text.splitlines()[0] == "medical data sets, image level, 1 of 3 (AUROC / max-F1)"
    assert text.splitlines()[3].split("  ")[0] == "Br35H"
    assert "| Br35H | 33.2 / 67.3 |" in comparisons_as_markdown(comparisons)
    assert comparisons_as_text([]) == comparisons_as_markdown([]) == ""
