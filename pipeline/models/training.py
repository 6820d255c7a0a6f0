"""One training step of AdaCLIP's own weights (section 4.1): forward, losses, backward, update.

Every image counts the same: the loss of a step is the mean of its images' own losses, however
they are cut into batches or over workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .adaclip import AdaCLIP, Features
from .losses import Dice, classification_loss, map_losses

LEARNING_RATE = 0.01  # section 4.1
BETAS = (0.5, 0.999)  # released code
WEIGHT_DECAY = 0.01  # released code leaves PyTorch's default of AdamW

TrainPrecision = Literal["fp32", "bf16"]
ReduceGradients = Callable[[Sequence[nn.Parameter], Tensor], Tensor]


@dataclass(frozen=True)
class StepResult:
    """What one step was like; losses are means over all images of the step."""

    score_loss: float
    """Focal loss of the image score."""
    focal: float
    """Focal loss of the maps, summed over the tapped layers."""
    dice: float
    """Dice loss of the maps, summed over the tapped layers."""
    grad_norm: float
    """L2 norm of the whole gradient before clipping; 0 where nothing was updated."""
    part_norms: dict[str, float] = field(default_factory=dict)
    """The same of each module of AdaCLIP's own, by its name."""

    @property
    def loss(self) -> float:
        """What was minimised."""
        return self.score_loss + self.focal + self.dice


class NonFiniteLoss(RuntimeError):
    """A loss or gradient that is no number; the weights and the optimiser were not touched."""

    def __init__(self, message: str, indices: list[int]) -> None:
        super().__init__(message)
        self.indices = indices
        """Images of this batch whose own loss is not finite; all of them where only the gradient
        isn't; none where the culprit is another worker's."""


def learnable_parameters(model: AdaCLIP) -> list[nn.Parameter]:
    """AdaCLIP's own weights, which require gradients from now on; the backbone stays frozen."""
    model.clip.requires_grad_(False)
    own = [p for name, p in model.named_parameters() if not name.startswith("clip.")]
    for parameter in own:
        parameter.requires_grad_(True)
    return own


def make_optimizer(
    model: AdaCLIP,
    *,
    lr: float = LEARNING_RATE,
    betas: tuple[float, float] = BETAS,
    weight_decay: float = WEIGHT_DECAY,
) -> torch.optim.AdamW:
    """AdamW over the learnable weights, at a constant learning rate, as the paper trains."""
    return torch.optim.AdamW(
        learnable_parameters(model), lr=lr, betas=betas, weight_decay=weight_decay
    )


def compute_losses(
    model: AdaCLIP,
    images: Tensor,
    categories: Sequence[str],
    labels: Tensor,
    masks: Tensor,
    *,
    has_mask: Tensor | None = None,
    dice: Dice = "defects",
    precision: TrainPrecision = "fp32",
) -> tuple[Tensor, Features]:
    """The three losses [3] of a batch (score, focal, dice) and the features they came from.

    Args:
        images: float32 [B, 3, S, S], normalised, S = ``model.settings.image_size``.
        categories: B class names.
        labels: [B], 1 for an abnormal image, else 0.
        masks: [B, S, S], 1 or true on the defect.
        has_mask: bool [B]; images without a known mask enter the score's loss only, and count as
            0 in the means of the other two. Default: all have one.
        dice: as in ``losses.dice_loss``.
        precision: "bf16" runs the towers under autocast, with fp32 weights and losses.
    """
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        features = model(images, categories)
    return _losses(model, features, labels, masks, has_mask, dice), features


def training_step(
    model: AdaCLIP,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    categories: Sequence[str],
    labels: Tensor,
    masks: Tensor,
    *,
    has_mask: Tensor | None = None,
    dice: Dice = "defects",
    share: float = 1.0,
    reduce_gradients: ReduceGradients | None = None,
    precision: TrainPrecision = "fp32",
    max_grad_norm: float | None = None,
) -> StepResult:
    """Minimise the mean loss of a batch by one step.

    Args:
        model: in fp32.
        optimizer: of ``make_optimizer``.
        images, categories, labels, masks, has_mask, dice, precision: as in
            ``compute_losses``. A worker whose part of the step is empty passes empty tensors.
        share: this batch's part of the images of the whole step, when the step is cut over
            several workers; its losses and gradients are scaled by it.
        reduce_gradients: sums over the workers, in place, the gradients of the parameters that it
            is given, and returns the sum of the statistics that it is given. Called exactly once
            a step, also after a loss that isn't finite: the others then learn it from the sum.
        max_grad_norm: longer gradients are shortened to this norm.

    Raises:
        NonFiniteLoss: before the optimiser is touched.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad(set_to_none=True)
    statistics = torch.zeros(3, device=model.device)
    bad: list[int] = []
    if len(images):
        how: Any = {"has_mask": has_mask, "dice": dice, "precision": precision}
        losses, features = compute_losses(model, images, categories, labels, masks, **how)
        statistics = losses.detach() * share
        if statistics.isfinite().all():
            (losses.sum() * share).backward()
        else:
            losses_of = partial(_losses, model, dice=dice)
            bad = _non_finite(losses_of, features, labels, masks, has_mask)
    if reduce_gradients is not None:
        statistics = reduce_gradients(parameters, statistics)
    if not statistics.isfinite().all():
        optimizer.zero_grad(set_to_none=True)
        raise NonFiniteLoss("the loss is not a finite number", bad)
    part_norms = _part_norms(model)
    grad_norm = _update(optimizer, parameters, max_grad_norm, len(images))
    score, focal, overlap = statistics.tolist()
    return StepResult(score, focal, overlap, grad_norm, part_norms)


def _part_norms(model: AdaCLIP) -> dict[str, float]:
    parts = {name: part for name, part in model.named_children() if name != "clip"}
    gradients = [
        [p.grad for p in part.parameters() if p.grad is not None] for part in parts.values()
    ]
    norms = torch.stack([torch.nn.utils.get_total_norm(each) for each in gradients])
    return dict(zip(parts, norms.tolist(), strict=True))  # one wait for the device


def _update(
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    max_grad_norm: float | None,
    batch: int,
) -> float:
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if not norm.isfinite():
        optimizer.zero_grad(set_to_none=True)
        raise NonFiniteLoss("the gradient is not finite", list(range(batch)))
    if max_grad_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, norm)
    optimizer.step()
    return norm.item()


def _losses(
    model: AdaCLIP,
    features: Features,
    labels: Tensor,
    masks: Tensor,
    has_mask: Tensor | None,
    dice: Dice,
) -> Tensor:
    score = classification_loss(model, features, labels)
    if has_mask is None or has_mask.all():
        return torch.stack([score, *map_losses(features, masks.float(), dice=dice)])
    if not has_mask.any():
        return torch.stack([score, *score.new_zeros(2)])
    some, masks = _select(features, has_mask), masks[has_mask].float()
    focal, overlap = map_losses(some, masks, dice=dice)
    part = has_mask.float().mean()
    return torch.stack([score, part * focal, part * overlap])


def _non_finite(
    losses_of: Callable[..., Tensor],
    features: Features,
    labels: Tensor,
    masks: Tensor,
    has_mask: Tensor | None,
) -> list[int]:
    """Which images of a batch have a loss that isn't finite."""

    def is_finite(i: int) -> bool:
        one = slice(i, i + 1)
        mask = None if has_mask is None else has_mask[one]
        with torch.no_grad():
            loss = losses_of(_select(features, one), labels[one], masks[one], mask)
        return bool(loss.isfinite().all())

    return [i for i in range(len(labels)) if not is_finite(i)]


def _select(features: Features, index: slice | Tensor) -> Features:
    return Features(
        features.class_embedding[index],
        features.patch_embeddings[index],
        features.text_features[index],
    )
