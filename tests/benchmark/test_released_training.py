"""The baseline does other work for the same losses."""

from __future__ import annotations

import pytest
import torch

from pipeline.benchmark.released_training import prepare, released_loss, released_step
from pipeline.benchmark.training import labelled_batch
from pipeline.models import AdaCLIP
from pipeline.models.training import compute_losses, make_optimizer
from tests import golden

SIZE = 56


@pytest.fixture
def model(golden_files: dict[str, str]) -> AdaCLIP:
    return golden.load(golden_files, image_size=SIZE)


@pytest.mark.parametrize("first", [0, 1, 5])
def test_losses_and_gradients_are_ours(model: AdaCLIP, first: int) -> None:
    make_optimizer(model)
    batch = labelled_batch(1, SIZE, first=first)
    losses, _ = compute_losses(model, *batch)
    losses.sum().backward()
    ours = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    loss = released_loss(model, *batch)
    torch.testing.assert_close(loss, losses.sum(), rtol=1e-5, atol=1e-5)
    loss.backward()
    for name, gradient in ours.items():
        found = model.get_parameter(name).grad
        assert found is not None
        assert (found - gradient).norm() <= 1e-3 * gradient.norm() + 1e-6, name


def test_a_step_computes_gradients_of_the_backbone_and_moves_only_our_weights(
    model: AdaCLIP,
) -> None:
    optimizer = make_optimizer(model)
    prepare(model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    released_step(model, optimizer, *labelled_batch(1, SIZE))
    weight = model.clip.visual.transformer.resblocks[1].mlp.c_fc.weight
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert not any(name.startswith("clip.") for name in moved)


def test_more_than_one_image_is_refused(model: AdaCLIP) -> None:
    with pytest.raises(ValueError, match="one image a step, got 2"):
        released_step(model, make_optimizer(model), *labelled_batch(2, SIZE))
