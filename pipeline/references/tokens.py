"""Patch tokens as references compare them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def normalise(tapped: Sequence[Tensor]) -> Tensor:
    """Raw patch tokens of the frozen pass, ready to be compared.

    Layer norm over the whole block of an image, without weights, then unit length a patch, as in
    MuSc (Li et al., ICLR 2024, section 3.2). Patches are not averaged with their neighbours: on
    thin defects and small grids that was worse (docs/references.md).

    Args:
        tapped: [B, N, C] of each of T tapped layers, any floating type.

    Returns:
        float32 [B, T, N, C].
    """
    tokens = torch.stack([F.layer_norm(each.float(), each.shape[-2:]) for each in tapped], dim=1)
    return F.normalize(tokens, dim=-1)
