"""Training losses (AdaCLIP, section 3.4): focal on the score, focal and dice on the maps."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .adaclip import AdaCLIP, Features

FOCAL_GAMMA = 2.0  # released code
LABEL_SMOOTHING = 1e-5  # released code: targets stay within [1e-5, 1 − 1e-5]
LOG_EPSILON = 1e-5  # released code: log(p + 1e-5)
DICE_SMOOTHING = 1.0  # released code

Dice = Literal["defects", "image", "rows"]


def focal_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Focal loss with γ = 2, α = 1, mean over all positions.

    Args:
        probabilities: float [B, 2, ...], normal and abnormal, summing to 1 over dimension 1.
        target: [B, ...], 1 where abnormal, else 0.
    """
    abnormal = target.to(probabilities.dtype)
    one_hot = torch.stack([1 - abnormal, abnormal], dim=1)
    one_hot = one_hot.clamp(LABEL_SMOOTHING, 1 - LABEL_SMOOTHING)
    p = (one_hot * probabilities).sum(dim=1) + LOG_EPSILON
    return (-((1 - p) ** FOCAL_GAMMA) * p.log()).mean()


def dice_loss(probability: Tensor, target: Tensor, *, dice: Dice = "image") -> Tensor:
    """1 − Dice coefficient, mean over the batch.

    Args:
        probability: float [B, H, W].
        target: [B, H, W], 0 or 1.
        dice: what a coefficient is of. "image"; "rows", each row of pixels by itself, as a squeeze
            makes the released code do, which also removes the batch; or "defects", images with
            anything in the target: others have no loss, instead of one that is about 1 until hardly
            a pixel is above 0.
    """
    first = 2 if dice == "rows" else 1
    probability, target = probability.flatten(first), target.to(probability.dtype).flatten(first)
    overlap, size = (probability * target).sum(dim=-1), target.sum(dim=-1)
    total = probability.sum(dim=-1) + size
    losses = 1 - (2 * overlap + DICE_SMOOTHING) / (total + DICE_SMOOTHING)
    return (losses * (size > 0) if dice == "defects" else losses).mean()


def classification_loss(model: AdaCLIP, features: Features, label: Tensor) -> Tensor:
    """Focal loss of the image score.

    Args:
        label: [B], 1 for an abnormal image, else 0.
    """
    score = model.score(features).score
    return focal_loss(torch.stack([1 - score, score], dim=1), label)


def map_losses(
    features: Features, mask: Tensor, *, dice: Dice = "defects"
) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of the maps, each summed over the tapped layers.

    Every layer's map is upsampled to the mask's size on its own, unlike at inference, where the
    layers' mean is.

    Args:
        mask: [B, H, W] at the model's input size, 1 on the defect.
        dice: as in ``dice_loss``.
    """
    logits = features.layer_logits()  # [B, T, N, 2]
    grid = round(logits.shape[2] ** 0.5)
    focal = overlap = logits.new_zeros(())
    for layer in logits.unbind(dim=1):
        small = layer.mT.unflatten(2, (grid, grid))
        size = mask.shape[-2:]
        large = F.interpolate(small, size, mode="bilinear", align_corners=True).softmax(dim=1)
        focal = focal + focal_loss(large, mask)
        overlap = overlap + dice_loss(large[:, 1], mask, dice=dice)
        overlap = overlap + dice_loss(large[:, 0], 1 - mask, dice=dice)
    return focal, overlap
