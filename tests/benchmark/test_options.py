"""Options that change results: they do what their names say, and the comparison adds up."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from pipeline.benchmark.options import (
    OPTIONS,
    Outcome,
    Pictures,
    compare,
    draw_pictures,
    measure_options,
    merge_tokens,
    merging,
    quantized,
)
from pipeline.models import AdaCLIP
from tests import golden


@pytest.fixture
def model(golden_files: Mapping[str, str]) -> AdaCLIP:
    return golden.load(golden_files)


def test_merging_keeps_the_class_token_and_the_weighted_sum() -> None:
    tokens = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(0))
    merged, sizes = merge_tokens(tokens, torch.ones(2, 12), 4)
    assert merged.shape == (2, 8, 8)
    assert torch.equal(merged[:, 0], tokens[:, 0])
    assert torch.equal(sizes.sum(dim=1), torch.full((2,), 12.0))
    torch.testing.assert_close((merged * sizes[..., None]).sum(1), tokens.sum(1))


def test_the_most_alike_tokens_are_merged_first() -> None:
    tokens = torch.eye(8)[None].clone()
    tokens[0, 3] = tokens[0, 6]  # the second of one half and the third of the other
    merged, sizes = merge_tokens(tokens, torch.ones(1, 8), 1)
    twice = merged[0, sizes[0] == 2]
    torch.testing.assert_close(twice, tokens[0, 6:7])


def test_token_merging_moves_the_score_a_little(model: AdaCLIP) -> None:
    batch = golden.batch([0, 1, 2, 3])
    difference = (merging(model).predict(*batch).score - model.predict(*batch).score).abs()
    assert 0 < difference.max() < 0.2


def test_int8_changes_a_copy_and_not_the_model(model: AdaCLIP) -> None:
    batch = golden.batch([0, 1])
    before = model.predict(*batch)
    found = quantized(model).predict(*batch)
    assert torch.equal(model.predict(*batch).score, before.score)
    assert 0 < (found.logit_grid - before.logit_grid).abs().mean() < 5


def test_pictures_are_half_good_and_have_masks_where_they_are_not() -> None:
    pictures = draw_pictures(4, 64)
    assert pictures.images.shape == (16, 3, 64, 64)
    assert pictures.labels.tolist() == [1, 0] * 8
    assert len(set(pictures.categories)) == 4


def test_a_comparison_gives_deviations_ranks_and_worth() -> None:
    masks = np.zeros((4, 8, 8), dtype=bool)
    masks[:2, 2:4, 2:4] = True
    pictures = Pictures(torch.zeros(4, 3, 8, 8), ["nut"] * 4, masks)
    maps = np.where(masks, 0.75, 0.25).astype(np.float32)
    good = Outcome(np.array([0.8, 0.9, 0.1, 0.2], dtype=np.float32), maps)
    other = Outcome(np.array([0.8, 0.1, 0.3, 0.2], dtype=np.float32), maps + np.float32(0.125))
    found = compare(other, good, pictures)
    assert found["score_max_deviation"] == pytest.approx(0.8)
    assert found["map_mean_deviation"] == pytest.approx(0.125)
    assert found["score_rank_correlation"] == pytest.approx(-0.4)
    assert (found["baseline_image_auroc"], found["option_image_auroc"]) == (1.0, 0.5)
    assert found["baseline_pixel_auroc"] == found["option_pixel_auroc"] == 1.0


def test_every_option_is_measured_against_its_baseline() -> None:
    found = measure_options(
        OPTIONS, backbone=golden.BACKBONE, image_size=56, native=28, repeats=1, per_category=2
    )
    assert [row["option"] for row in found] == [option.name for option in OPTIONS]
    assert all(row["speed_up"] > 0 and row["score_max_deviation"] > 0 for row in found)
