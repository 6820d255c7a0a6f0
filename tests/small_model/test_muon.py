"""Muon: PyTorch's steps, to the rounding of its bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.small_model.muon import Muon, orthogonal

SHAPES = ((16, 48), (64, 16), (16, 16), (16, 48))


def parameters(matrices: list[Tensor]) -> list[nn.Parameter]:
    return [nn.Parameter(matrix.clone()) for matrix in matrices]


def test_its_steps_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in SHAPES]
    ours, theirs = parameters(start), parameters(start)
    settings = {"lr": 0.02, "weight_decay": 0.01}
    optimizers = [Muon(ours, **settings), torch.optim.Muon(theirs, **settings)]
    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for before, one, other in zip(start, ours, theirs, strict=True):
        moved = (one - before).norm()
        assert (one - other).norm() < 0.02 * moved


@pytest.mark.parametrize("shape", [(3, 16, 48), (48, 16), (1, 8)])
def test_singular_values_come_near_1(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(1e3 * torch.randn(shape)))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_nothing_stays_nothing() -> None:
    assert not orthogonal(torch.zeros(4, 8)).any()


def test_without_a_gradient_nothing_moves() -> None:
    learned, left = parameters([torch.ones(4, 8), torch.ones(4, 8)])
    learned.grad = torch.ones(4, 8)
    Muon([learned, left], lr=0.02, weight_decay=0.01).step()
    assert (learned != 1).all()
    assert (left == 1).all()
