"""What the workers tell the driver; none of it needs PyTorch, nor does whoever passes it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class StepRecord(NamedTuple):
    """One step; losses are means over its images."""

    step: int
    """Counted from 1 over all epochs."""
    epoch: int
    """Counted from 1."""
    loss: float
    score_loss: float
    focal: float
    dice: float
    grad_norm: float
    images: int
    """Samples of all workers."""
    seconds: float
    """Wall-clock time since the step before."""
    grad_visual_prompts: float = 0.0
    """L2 norm of the gradient of this part, before clipping; the same of those that follow."""
    grad_text_prompts: float = 0.0
    grad_visual_generator: float = 0.0
    grad_text_generator: float = 0.0
    grad_patch_projection: float = 0.0
    grad_class_projection: float = 0.0


class EpochRecord(NamedTuple):
    """One epoch; losses are means over images."""

    epoch: int
    step: int
    """Steps done when it ended."""
    train_loss: float
    """Mean over the epoch, while the weights changed."""
    held_out_loss: float | None
    """Of the weights at the end; None without a held-out part."""
    held_out_score_loss: float | None
    held_out_focal: float | None
    held_out_dice: float | None
    image_auroc: float | None = None
    """Of held-out images: mean over the categories that have good and abnormal ones."""
    image_auroc_spread: float | None = None
    """Standard deviation over those categories."""
    image_ap: float | None = None
    image_ap_spread: float | None = None
    pixel_auroc: float | None = None
    pixel_auroc_spread: float | None = None
    pixel_ap: float | None = None
    pixel_ap_spread: float | None = None
    calibration_error: float | None = None
    """How far scores of held-out images are from probabilities
    (``evaluation.reliability.calibration_error``)."""
    score_scale: float | None = None
    """Of the logit, fitted on held-out images; makes scores probabilities."""
    score_shift: float | None = None
    calibrated_error: float | None = None
    """The calibration error with them, on the images that they were fitted on."""


@dataclass(frozen=True)
class Pictures:
    """What a few held-out images' maps look like after an epoch."""

    step: int
    images: list[NDArray[np.uint8]]
    """[P, 3P, 3] each: the image, its mask and its map."""


@dataclass(frozen=True)
class Failure:
    """Why a run can't go on, in words; another try would end the same."""

    message: str


@dataclass(frozen=True)
class NoModel:
    """Why there is no such model as the settings name, in words; nothing was trained."""

    message: str


@dataclass(frozen=True)
class LostMasks:
    """Images that a worker trains on without their masks, which say nothing at this size."""

    reasons: frozenset[str]
    """Each with the image's name."""


@dataclass(frozen=True)
class Finished:
    """What the driver can't know of the result by itself."""

    model: str
    """Fingerprint of the selected weights with their backbone."""
    num_learnable: int
    device: str
