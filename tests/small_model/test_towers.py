"""Training the towers: budgets, what a batch looks like, and that losses have effects."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from pipeline.models import AdaCLIP, AdaCLIPSettings
from pipeline.models.clip import embed_patches
from pipeline.models.configuration import clip_config
from pipeline.packaged import IMAGE_SIZE, SMALL_MODEL
from pipeline.small_model import (
    Budget,
    Pictures,
    towers,
    train_adaclip,
    train_image_tower,
    train_text_tower,
)
from pipeline.small_model.pretraining import PretrainingHeads, Views


@pytest.fixture
def clip() -> Any:
    torch.manual_seed(0)
    return open_clip.CLIP(**clip_config(SMALL_MODEL["backbone"]))


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures.draw(("cork", "washer"), 2, IMAGE_SIZE, seed=0)


def test_a_budget_of_steps_is_used_up_evenly() -> None:
    assert list(Budget(4).shares()) == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("nothing", [Budget(0), Budget(None, minutes=0)])
def test_a_budget_of_nothing_ends_at_once(nothing: Budget) -> None:
    assert list(nothing.shares()) == []


def test_a_budget_of_minutes_ends_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: 30.0 * next(clock))
    shares = list(Budget(None, minutes=2).shares())
    assert shares == [0.25, 0.5, 0.75]


def heads_of(clip: Any, pictures: Pictures) -> PretrainingHeads:
    return PretrainingHeads(clip, len(pictures.names))


def test_views_grow_from_crops_to_whole_pictures(
    clip: Any, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def loss(clip: Any, heads: PretrainingHeads, views: Views, corner: tuple[int, int]) -> Any:
        side = views.images.shape[-1]
        seen.append(side)
        assert all(0 <= c <= (IMAGE_SIZE - side) // 8 for c in corner)
        damaged = views.masks.flatten(1).any(1)
        assert not damaged[: len(damaged) // 2].any()
        return heads.states.sum()

    monkeypatch.setattr(towers, "image_tower_loss", loss)
    rng = np.random.default_rng(0)
    train_image_tower(clip, heads_of(clip, pictures), pictures, Budget(8), rng)
    assert sorted(seen) == seen
    assert set(seen) == set(towers.VIEWS)


def test_both_towers_learn_and_the_image_tower_is_locked_at_last(
    clip: Any, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(towers, "VIEWS", {k: (sides, 2) for k, (sides, _) in towers.VIEWS.items()})
    monkeypatch.setattr(towers, "TEXT_BATCH", 3)
    heads, rng = heads_of(clip, pictures), np.random.default_rng(0)
    before = {name: p.clone() for name, p in clip.named_parameters()}
    train_image_tower(clip, heads, pictures, Budget(2), rng)
    between = {name: p.clone() for name, p in clip.named_parameters()}
    changed = {name for name in before if (before[name] != between[name]).any()}
    assert changed
    assert all(name.startswith("visual.") for name in changed)
    train_text_tower(clip, heads.states, pictures.names, 2, rng)
    changed = {name for name, p in clip.named_parameters() if (between[name] != p).any()}
    assert "token_embedding.weight" in changed
    assert not any(name.startswith("visual.") for name in changed)


def test_adaclip_starts_from_the_read_outs_of_the_image_tower(
    clip: Any, pictures: Pictures
) -> None:
    heads = heads_of(clip, pictures)
    model = AdaCLIP(clip.eval().requires_grad_(False), AdaCLIPSettings(image_size=IMAGE_SIZE))
    train_adaclip(model, heads.patch_token_layer, pictures, 0, np.random.default_rng(0))
    images = pictures.whole(np.arange(2))
    features = model(images, ["cork", "cork"])
    tokens = embed_patches(clip.visual, images, model.position_embedding)
    class_embedding, tapped = model.encode_image(
        tokens, model.prompts(model.frozen_embedding(tokens))[0]
    )
    expected = heads.patch_token_layer.each(tapped)
    torch.testing.assert_close(features.patch_embeddings, F.normalize(expected, dim=-1))
    torch.testing.assert_close(
        features.class_embedding, F.normalize(class_embedding, dim=-1), rtol=1e-4, atol=1e-5
    )
