"""Making a small backbone: where it starts, and that its losses go down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F

from pipeline.models.configuration import clip_config
from pipeline.models.text import encode_text
from pipeline.small_model.pretraining import (
    PretrainingHeads,
    Views,
    image_tower_loss,
    initialise_image_tower,
    text_tower_loss,
)
from tests.golden import BACKBONE

SIDE = 112


@pytest.fixture
def clip() -> Any:
    torch.manual_seed(0)
    return open_clip.CLIP(**clip_config(BACKBONE))


def pictures(count: int, side: int = SIDE) -> Views:
    """Smooth noise, a bright square in every other one."""
    torch.manual_seed(1)
    images = F.interpolate(torch.randn(count, 3, 8, 8), (side, side), mode="bilinear")
    images = images + 0.1 * torch.randn_like(images)
    masks = torch.zeros(count, side, side)
    masks[::2, 14:42, 14:42] = 1
    return Views(images + 3 * masks[:, None], images, masks, torch.arange(count) % 2)


def minimise(
    parameters: Iterable[torch.nn.Parameter], loss: Callable[[], torch.Tensor]
) -> list[float]:
    """A dozen steps; the losses on the way."""
    parameters = [p.requires_grad_(True) for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    losses = []
    for _ in range(12):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def test_the_patch_embedding_starts_by_whitening(clip: Any) -> None:
    images = pictures(40).images
    initialise_image_tower(clip, images)
    tokens = clip.visual.conv1(images).detach().flatten(2).mT.flatten(0, 1)
    variance = tokens.var(dim=0)
    assert variance[0] == pytest.approx(1, abs=0.1)
    assert (variance < 1.1).all()
    correlation = torch.corrcoef(tokens[:, :16].T) - torch.eye(16)
    assert correlation.abs().max() < 0.05


def test_neighbouring_places_start_alike_and_far_ones_apart(clip: Any) -> None:
    initialise_image_tower(clip, pictures(40).images)
    places = F.normalize(clip.visual.positional_embedding.detach()[1:], dim=-1)
    grid = SIDE // clip.visual.conv1.kernel_size[0]
    likeness = (places @ places[0]).view(grid, grid)
    assert likeness[0, 1] == pytest.approx(likeness[1, 0].item(), abs=1e-5)
    assert likeness[0, 1] > likeness[0, 3]
    assert likeness[0, 1] > likeness[3, 3]


@pytest.mark.slow
def test_the_image_tower_learns_where_and_whether(clip: Any) -> None:
    views = pictures(8)
    initialise_image_tower(clip, views.images)
    heads = PretrainingHeads(clip, 2)
    losses = minimise(
        [*clip.visual.parameters(), *heads.parameters()],
        lambda: image_tower_loss(clip, heads, views),
    )
    assert losses[-1] < 0.8 * losses[0]


def test_every_part_of_the_loss_reaches_its_read_out(clip: Any) -> None:
    heads = PretrainingHeads(clip, 2)
    image_tower_loss(clip, heads, pictures(4)).backward()
    for name, parameter in heads.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_what_was_there_before_is_asked_for(clip: Any) -> None:
    heads, views = PretrainingHeads(clip, 2), pictures(4)
    with torch.no_grad():
        heads.restored.weight.zero_()
        heads.restored.bias.zero_()
        undamaged = replace(views, sound=views.images)
        # A head that changes nothing is right where nothing changed, and only there.
        difference = image_tower_loss(clip, heads, views) - image_tower_loss(clip, heads, undamaged)
    assert difference > 1


def test_crops_take_their_place_in_the_grid(clip: Any) -> None:
    initialise_image_tower(clip, pictures(40).images)
    heads = PretrainingHeads(clip, 2)
    crops = pictures(4, side=56)
    here, again, there = (
        image_tower_loss(clip, heads, crops, corner) for corner in ((0, 0), (0, 0), (4, 2))
    )
    assert here == again
    assert here != there


@pytest.mark.parametrize("prompted", [False, True])
def test_sentences_come_to_lie_at_the_two_states(clip: Any, prompted: bool) -> None:
    states = F.normalize(torch.randn(2, clip.text_projection.shape[1]), dim=-1)
    shape = (2, 4, 3, clip.token_embedding.embedding_dim)
    prompts = torch.randn(shape) if prompted else None
    names = ["cat", "dog"]
    text = [p for name, p in clip.named_parameters() if not name.startswith("visual.")]
    losses = minimise(text, lambda: text_tower_loss(clip, states, names, prompts))
    assert losses[-1] < 0.5 * losses[0]
    distance = (encode_text(clip, names, prompts) - states).norm(dim=-1)
    assert (distance < 1).all()
