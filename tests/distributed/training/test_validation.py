"""What is told of held-out images after an epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.distributed.training.data import Batch
from pipeline.distributed.training.validation import PICTURE_SIDE, Validation
from pipeline.models.adaclip import Prediction

SIZE = 16


def batch(labels: list[int], categories: list[str], *, has_mask: bool = True) -> Batch:
    """The defects fill the left half."""
    count = len(labels)
    masks = np.zeros((count, SIZE, SIZE), np.uint8)
    masks[np.array(labels) == 1, :, : SIZE // 2] = 1
    return Batch(
        pixels=np.zeros((count, SIZE, SIZE, 3), np.uint8),
        masks=masks,
        labels=np.array(labels, np.int8),
        has_mask=np.full(count, has_mask),
        categories=categories,
        uris=["s3://b/x.png"] * count,
        errors=[],
        lost_masks=[],
    )


def prediction(logits: list[float], *, left: float = 6.0) -> Prediction:
    """Maps that are high in the left half."""
    grid = torch.full((len(logits), 4, 4), -6.0)
    grid[:, :, :2] = left
    logit = torch.tensor(logits)
    return Prediction(grid, logit.sigmoid(), logit)


def test_figures_are_means_over_categories_with_their_spread() -> None:
    seen = Validation(SIZE)
    seen.add(batch([0, 1, 0, 1], ["a", "a", "b", "b"]), prediction([-5, 5, 5, -5]))
    seen.add(batch([1], ["c"]), prediction([5]))
    figures = seen.figures()
    assert (figures["image_auroc"], figures["image_auroc_spread"]) == (0.5, 0.5)
    assert figures["pixel_auroc"] == pytest.approx(0.83, abs=0.1), "two of five have no defect"


def test_overconfident_scores_are_brought_back() -> None:
    seen = Validation(SIZE)
    labels = [0, 0, 0, 1] * 10 + [1, 1, 1, 0] * 10
    logits = [-20.0] * 40 + [20.0] * 40
    seen.add(batch(labels, ["a"] * 80), prediction(logits))
    figures = seen.figures()
    assert figures["calibration_error"] == pytest.approx(0.25, abs=1e-3)
    assert figures["calibrated_error"] == pytest.approx(0, abs=0.02)
    assert figures["score_scale"] == pytest.approx(np.log(3) / 20, rel=0.1)


def test_without_both_kinds_or_masks_there_is_no_figure() -> None:
    seen = Validation(SIZE)
    seen.add(batch([1, 1], ["a", "a"], has_mask=False), prediction([1, 2]))
    figures = seen.figures()
    assert {figures[name] for name in ("image_auroc", "pixel_ap", "pixel_ap_spread")} == {None}
    assert "score_scale" not in figures
    assert seen.pictures == []


def test_pictures_are_of_the_first_abnormal_images() -> None:
    seen = Validation(SIZE)
    seen.add(batch([0, 1, 1, 1], ["a"] * 4), prediction([0, 0, 0, 0]))
    seen.add(batch([1, 1], ["a"] * 2), prediction([0, 0]))
    assert len(seen.pictures) == 4
    image, mask, shown = np.hsplit(seen.pictures[0], 3)
    assert image.shape == (PICTURE_SIDE, PICTURE_SIDE, 3)
    assert image.max() == 0
    half = PICTURE_SIDE // 2
    assert mask[:, : half - 32].min() == 255
    assert mask[:, half + 32 :].max() == 0
    assert shown[:, :32].min() > 240
    assert shown[:, -32:].max() < 15
