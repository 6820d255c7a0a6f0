"""Making a small backbone: where it starts, and that its losses go down."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F

from pipeline.models.clip import clip_config
from pipeline.models.pretraining import (
    PretrainingHeads,
    class_embedding,
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


def pictures(count: int, side: int = SIDE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Smooth noise, a bright square in every other one."""
    torch.manual_seed(1)
    images = F.interpolate(torch.randn(count, 3, 8, 8), (side, side), mode="bilinear")
    images = images + 0.1 * torch.randn_like(images)
    masks = torch.zeros(count, side, side)
    masks[::2, 14:42, 14:42] = 1
    return images + 3 * masks[:, None], masks, torch.arange(count) % 2


def test_the_patch_embedding_starts_by_whitening(clip: Any) -> None:
    images, _, _ = pictures(40)
    initialise_image_tower(clip, images)
    tokens = clip.visual.conv1(images).detach().flatten(2).mT.flatten(0, 1)
    variance = tokens.var(dim=0)
    assert variance[0] == pytest.approx(1, abs=0.1)
    assert (variance < 1.1).all()
    correlation = torch.corrcoef(tokens[:, :16].T) - torch.eye(16)
    assert correlation.abs().max() < 0.05


def test_neighbouring_places_start_alike_and_far_ones_apart(clip: Any) -> None:
    initialise_image_tower(clip, pictures(40)[0])
    places = F.normalize(clip.visual.positional_embedding.detach()[1:], dim=-1)
    grid = SIDE // clip.visual.conv1.kernel_size[0]
    likeness = (places @ places[0]).view(grid, grid)
    assert likeness[0, 1] == pytest.approx(likeness[1, 0].item(), abs=1e-5)
    assert likeness[0, 1] > likeness[0, 3]
    assert likeness[0, 1] > likeness[3, 3]


def test_the_image_tower_learns_where_and_whether(clip: Any) -> None:
    images, masks, categories = pictures(8)
    initialise_image_tower(clip, images)
    heads = PretrainingHeads(clip, 2, [2, 4, 6, 8])
    parameters = [*clip.visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    losses = []
    for _ in range(12):
        loss = image_tower_loss(clip, heads, images, masks, categories)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_crops_take_their_place_in_the_grid(clip: Any) -> None:
    initialise_image_tower(clip, pictures(40)[0])
    heads = PretrainingHeads(clip, 2, [2, 4, 6, 8])
    crops = pictures(4, side=56)
    here, again, there = (
        image_tower_loss(clip, heads, *crops, corner=corner) for corner in ((0, 0), (0, 0), (4, 2))
    )
    assert here == again
    assert here != there


def test_sentences_are_drawn_to_their_own_pictures(clip: Any) -> None:
    images, _, _ = pictures(4)
    with torch.no_grad():
        embeddings = class_embedding(clip, images)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(4))
    tokens = open_clip.SimpleTokenizer()(["a cat", "a dog", "a cat", "a dog"])
    meanings = torch.tensor([0, 1, 0, 1])
    text = [p for name, p in clip.named_parameters() if not name.startswith("visual.")]
    optimizer = torch.optim.AdamW(text, lr=1e-3)
    losses = []
    for _ in range(15):
        loss = text_tower_loss(clip, embeddings, meanings, tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
