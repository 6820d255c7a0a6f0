"""What a training run is at one moment, as one object in storage.

A single object, replaced atomically, is why a run may be killed at any moment: there is no list of
checkpoints that could disagree with them. (Ray Train keeps such a list, writes it in place, and
refuses it under another version of Ray.)
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.config import TrainConfig
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, absolute, read_object, write_object

from .messages import EpochRecord, StepRecord

if TYPE_CHECKING:  # a driver asks for the state, and needs PyTorch only where there is one
    import torch
    from torch import Tensor

    from pipeline.models import AdaCLIP

CHECKPOINT = "checkpoint.pt"
SETTINGS = "config.json"  # written last: an output with it belongs to a run


@dataclass
class TrainingState:
    """Everything that the rest of a run depends on, and what it has been so far."""

    step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    steps: list[StepRecord] = field(default_factory=list)
    epochs: list[EpochRecord] = field(default_factory=list)
    best_epoch: int | None = None
    """The epoch with the lowest held-out loss so far, counted from 1."""
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def capture(self, model: AdaCLIP, optimizer: torch.optim.Optimizer) -> None:
        """Take over the weights and the optimiser's state as they are now."""
        self.weights = copy_weights(model)
        self.optimizer = optimizer.state_dict()

    def restore(self, model: AdaCLIP, optimizer: torch.optim.Optimizer) -> None:
        """Give back what ``capture`` took; nothing at step 0."""
        if self.step:
            model.load_state_dict(self.weights, strict=False)
            optimizer.load_state_dict(self.optimizer)

    def end_epoch(self, record: EpochRecord, model: AdaCLIP) -> None:
        """Note an epoch, and keep its weights if no earlier one was better on held-out images."""
        self.epochs.append(record)
        if record.held_out_loss is None:
            return
        before = [e.held_out_loss for e in self.epochs[:-1] if e.held_out_loss is not None]
        if record.held_out_loss < min(before, default=float("inf")):
            self.best_epoch, self.best_weights = record.epoch, copy_weights(model)

    def is_stale(self, patience: int | None) -> bool:
        """Whether so many epochs have passed since the best one."""
        return patience is not None and len(self.epochs) - (self.best_epoch or 0) >= patience


def selected_epoch(config: TrainConfig, state: TrainingState) -> int:
    """The epoch, counted from 1, whose weights are the result."""
    if config.select == "best" and state.best_epoch is not None:
        return state.best_epoch
    return len(state.epochs)


def copy_weights(model: AdaCLIP) -> dict[str, Tensor]:
    """AdaCLIP's own weights on the CPU, independent of what training does next."""
    return {k: v.detach().cpu().clone() for k, v in model.learnable_state().items()}


def save_state(output: str, state: TrainingState) -> None:
    """Replace the output's checkpoint.

    Raises:
        StorageError: it can't be written.
    """
    import torch

    buffer = io.BytesIO()
    content = {**vars(state)}
    for name in ("steps", "epochs"):  # plain lists load without running code
        content[name] = [list(record) for record in content[name]]
    torch.save(content, buffer)
    write_object(f"{output}/{CHECKPOINT}", buffer.getvalue())


def load_state(output: str) -> TrainingState:
    """The output's checkpoint, or the state of a run that has not begun.

    Raises:
        StorageError: storage does not answer.
    """
    try:
        data, _ = read_object(f"{absolute(output)}/{CHECKPOINT}")
    except StorageError as error:
        if error.code == ErrorCode.NOT_FOUND:
            return TrainingState()
        raise
    import torch

    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    content["steps"] = [StepRecord(*record) for record in content["steps"]]
    content["epochs"] = [EpochRecord(*record) for record in content["epochs"]]
    return TrainingState(**content)
