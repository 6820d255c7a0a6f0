"""Losses and gradients of the released code on the first golden case."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.models import AdaCLIP
from pipeline.models.losses import classification_loss, dice_loss, focal_loss, map_losses
from tests import golden

VALUES = golden.values()
GRADIENTS = [key for key in VALUES.files if key.startswith("train/grad_norm/")]


def golden_mask() -> torch.Tensor:
    """Of the first case [1, S, S]."""
    png = (golden.FOLDER / "inputs" / "grass_stain_mask.png").read_bytes()
    size = (golden.IMAGE_SIZE, golden.IMAGE_SIZE)
    resized = Image.open(io.BytesIO(png)).convert("L").resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(resized) / 255 > 0.5)[None].float()


@pytest.fixture(scope="module")
def trained(golden_files: dict[str, str]) -> tuple[AdaCLIP, dict[str, float]]:
    """The model after one backward pass, fusion off, and its losses."""
    model = golden.load(golden_files, use_fusion=False)
    images, categories = golden.batch([0])
    features = model(images, categories)
    focal, dice = map_losses(features, golden_mask())
    classification = classification_loss(model, features, torch.ones(1))
    (classification + focal + dice).backward()
    losses = {
        "classification_loss": classification,
        "focal_map_loss": focal,
        "dice_map_loss": dice,
        "segmentation_loss": focal + dice,
    }
    return model, {name: value.item() for name, value in losses.items()}


@pytest.mark.parametrize("name", ["classification_loss", "focal_map_loss", "dice_map_loss"])
def test_losses_are_the_released_codes(
    trained: tuple[AdaCLIP, dict[str, float]], name: str
) -> None:
    assert trained[1][name] == pytest.approx(float(VALUES[f"train/{name}"]), abs=1e-4)


@pytest.mark.parametrize("key", GRADIENTS)
def test_gradient_norms_are_the_released_codes(
    trained: tuple[AdaCLIP, dict[str, float]], key: str
) -> None:
    parameter = trained[0].get_parameter(key.removeprefix("train/grad_norm/"))
    assert parameter.grad is not None
    assert parameter.grad.norm().item() == pytest.approx(float(VALUES[key]), rel=1e-3)


def test_dice_of_rows_is_what_the_released_code_computes(golden_files: dict[str, str]) -> None:
    """By accident, at batch 1; here at any batch size."""
    model = golden.load(golden_files, use_fusion=False)
    images, categories = golden.batch([0])
    with torch.no_grad():
        features = model(images.repeat(2, 1, 1, 1), categories * 2)
        _, dice = map_losses(features, golden_mask().repeat(2, 1, 1), dice="rows")
    expected = float(VALUES["train/dice_map_loss_rowwise_as_released"])
    assert dice.item() == pytest.approx(expected, abs=1e-4)


def test_a_batch_has_the_mean_of_its_images_losses() -> None:
    torch.manual_seed(0)
    probability, target = torch.rand(3, 8, 8), (torch.rand(3, 8, 8) > 0.7).float()
    both = torch.stack([1 - probability, probability], dim=1)
    for loss, first in ((dice_loss, probability), (focal_loss, both)):
        singles = [loss(first[i : i + 1], target[i : i + 1]) for i in range(3)]
        torch.testing.assert_close(loss(first, target), torch.stack(singles).mean())


def test_dice_of_defects_leaves_out_images_without_one() -> None:
    torch.manual_seed(0)
    probability, target = torch.rand(3, 8, 8), (torch.rand(3, 8, 8) > 0.7).float()
    target[1] = 0
    with_defect = [0, 2]
    expected = dice_loss(probability[with_defect], target[with_defect]) * 2 / 3
    torch.testing.assert_close(dice_loss(probability, target, dice="defects"), expected)
    assert dice_loss(probability[1:2], target[1:2], dice="defects").item() == 0
    assert dice_loss(probability[1:2], target[1:2]).item() > 0.9
    torch.testing.assert_close(
        dice_loss(probability[:1], target[:1], dice="defects"),
        dice_loss(probability[:1], target[:1]),
    )


def test_a_perfect_map_has_no_loss() -> None:
    mask = torch.zeros(1, 6, 6)
    mask[0, 2:4, 2:4] = 1
    assert dice_loss(mask, mask).item() == pytest.approx(0)
    assert focal_loss(torch.stack([1 - mask, mask], dim=1), mask).item() == pytest.approx(
        0, abs=1e-9
    )
