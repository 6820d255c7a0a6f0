"""A model by its specification, in whatever process needs one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.config import NONE, ModelSpec

if TYPE_CHECKING:
    import torch

    from pipeline.models import AdaCLIP


def load_model(spec: ModelSpec, device: str | torch.device = "cpu") -> AdaCLIP:
    """Build it, ready for ``predict``.

    Raises:
        ValueError: something does not exist or does not fit; the message names it.
    """
    from pipeline.models import load_adaclip  # not above: drivers import this and need no PyTorch

    arguments = asdict(spec)
    for name in ("backbone_weights", "checkpoint"):
        arguments[name] = None if arguments[name] == NONE else arguments[name]
    return load_adaclip(**arguments, device=device)
