"""Hybrid learnable prompts (AdaCLIP, section 3.2): static ones learned, dynamic ones generated.

The parameter names are those of the released checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StaticPrompts(nn.Module):
    """Learned prompt tokens, M for each of the J prompted blocks."""

    def __init__(self, *, depth: int, length: int, width: int) -> None:
        super().__init__()
        self.static_prompts = nn.ParameterList(
            [nn.Parameter(torch.randn(length, width) * 0.02) for _ in range(depth)]
        )

    def forward(self) -> Tensor:
        """All prompts [J, M, D]."""
        return torch.stack(list(self.static_prompts))


class Projections(nn.Module):
    """Parallel linear layers: one per tapped layer, or one per generated prompt token."""

    def __init__(self, in_width: int, out_width: int, num_heads: int) -> None:
        super().__init__()
        self.head = nn.ModuleList(nn.Linear(in_width, out_width) for _ in range(num_heads))

    def fan_out(self, x: Tensor) -> Tensor:
        """One input through every head: [B, in] → [B, heads, out]."""
        return torch.stack([head(x) for head in self.head], dim=1)

    def each(self, xs: list[Tensor]) -> Tensor:
        """Input i through head i: heads × [B, ..., in] → [B, heads, ..., out]."""
        return torch.stack([head(x) for head, x in zip(self.head, xs, strict=True)], dim=1)


def combine(
    static: StaticPrompts, dynamic: Tensor | None, *, use_static: bool, batch: int
) -> Tensor | None:
    """The prompts of every block for every image, static plus dynamic.

    Args:
        static: the learned prompts, [J, M, D].
        dynamic: generated prompts [B, M, D], the same for all blocks; None = switched off.
        use_static: False leaves the learned prompts out.

    Returns:
        [B, J, M, D], or None when both kinds are switched off.
    """
    learned = static()
    if dynamic is None:
        return learned.expand(batch, -1, -1, -1) if use_static else None
    per_block = dynamic[:, None].expand(-1, len(learned), -1, -1)
    return per_block + learned if use_static else per_block
