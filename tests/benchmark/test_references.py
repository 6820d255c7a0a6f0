"""What references cost: tables that fit together, on a tiny model."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.benchmark import references
from pipeline.benchmark.references import measure_references
from pipeline.benchmark.run import COLUMNS
from pipeline.benchmark.tables import table
from pipeline.benchmark.whole_job import TINY
from pipeline.config import BenchmarkConfig
from pipeline.models.text import sentence_tree

PATCHES, WIDTH = (56 // 14) ** 2, 128
LAYERS = 3


def config(**settings: Any) -> BenchmarkConfig:
    tiny = {"backbone": TINY, "backbone_weights": "none", "checkpoint": "none", "image_size": 56}
    return BenchmarkConfig(**tiny | {"num_threads": 1, "num_steps": 1} | settings)


@pytest.fixture(scope="module")
def found() -> dict[str, list[dict[str, Any]]]:
    return measure_references(config(num_images=(8, 67), batch_size=(2, 1)))


def test_sets_of_both_kinds_are_made_beyond_the_sample_too(
    found: dict[str, list[dict[str, Any]]],
) -> None:
    passes = [
        (r["way"], r["images"], r["full_passes"], r["frozen_passes"]) for r in found["building"]
    ]
    assert passes == [
        ("known good", 8, 8, 0),
        ("unlabelled", 8, 8, 0),
        ("known good", 67, 64, 67),
        ("unlabelled", 67, 64, 67),
    ]
    for row in found["building"]:
        assert row["ratio"] == pytest.approx(row["build_s"] / row["score_s"], rel=0.01)
        assert row["references"] == row["images"] or row["way"] == "unlabelled"


def test_bytes_are_those_of_packed_covariances(found: dict[str, list[dict[str, Any]]]) -> None:
    row = found["building"][0]
    covariances = LAYERS * WIDTH * (WIDTH + 1) // 2 * 4
    readings = 8 * 2 * (2 * PATCHES + 1)
    assert row["bytes_per_look"] == covariances + LAYERS * WIDTH * 8 + readings + 2 * 8
    assert row["embedding_bytes"] == 64 * 2
    assert 0 < row["set_bytes"] - row["bytes_per_look"] - 8 * row["embedding_bytes"] < 3_000


def test_scoring_is_compared_and_cut_at_each_batch_size(
    found: dict[str, list[dict[str, Any]]],
) -> None:
    assert [row["batch_size"] for row in found["scoring"]] == [2, 1]
    for row in found["scoring"]:
        assert row["patches"] == row["batch_size"] * PATCHES
        assert (row["references"], row["looks"]) == (8, 1)
        assert row["ratio"] == pytest.approx(row["with_s"] / row["without_s"], rel=0.01)
    stages = {row["stage"]: row for row in found["stages"] if row["batch_size"] == 2}
    distances = 2 * PATCHES * LAYERS * 2 * WIDTH**2
    assert stages["distances, one look"]["gflops"] == pytest.approx(distances / 1e9, rel=1e-3)
    assert len(found["stages"]) == 2 * len(stages)
    for name, rows in found.items():
        assert table(rows, COLUMNS[name])


def test_both_class_names_take_the_same_text() -> None:
    with_, without = (sentence_tree(n, 77) for n in (references.CATEGORY, references.WITHOUT))
    assert len(with_.ids) == len(without.ids)
    assert with_.positions.equal(without.positions)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="7 images are too few"):
        measure_references(config(num_images=(7,), batch_size=(7,)))
