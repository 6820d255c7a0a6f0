"""What the workers tell the driver; none of it needs PyTorch, nor does whoever passes it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


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
