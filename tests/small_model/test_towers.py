"""Training the towers: budgets, what a batch looks like, and that losses have effects."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from jobs.make_small_model import CONFIGURATION, SIZE
from pipeline.models.clip import clip_config
from pipeline.small_model import Budget, Pictures, towers, train_image_tower, train_text_tower


@pytest.fixture
def clip() -> Any:
    torch.manual_seed(0)
    return open_clip.CLIP(**clip_config(str(CONFIGURATION)))


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures.draw(("cork", "washer"), 2, SIZE, seed=0)


def test_a_budget_of_steps_is_used_up_evenly() -> None:
    assert list(Budget(4).shares()) == [0, 0.25, 0.5, 0.75]


def test_a_budget_of_minutes_ends_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: 30.0 * next(clock))
    shares = list(Budget(5, minutes=2).shares())
    assert shares == [0.25, 0.5, 0.75]


def test_views_grow_from_crops_to_whole_pictures(
    clip: Any, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def loss(clip: Any, heads: Any, images: Any, masks: Any, categories: Any, corner: Any) -> Any:
        seen.append(images.shape[-1])
        grid = SIZE // 8
        assert all(0 <= c <= grid - images.shape[-1] // 8 for c in corner)
        damaged = masks.flatten(1).any(1)
        assert not damaged[: len(damaged) // 2].any()
        return heads.state.weight.sum()

    monkeypatch.setattr(towers, "image_tower_loss", loss)
    train_image_tower(clip, pictures, Budget(8), np.random.default_rng(0))
    assert sorted(seen) == seen
    assert set(seen) == set(towers.VIEWS)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(towers, "VIEWS", {k: (sides, 2) for k, (sides, _) in towers.VIEWS.items()})
    monkeypatch.setattr(towers, "TEXT_PICTURES", 8)
    monkeypatch.setattr(towers, "TEXT_BATCH", 4)


@pytest.mark.usefixtures("small_batches")
def test_both_towers_learn_and_the_image_tower_is_locked_at_last(
    clip: Any, pictures: Pictures
) -> None:
    before = {name: p.clone() for name, p in clip.named_parameters()}
    train_image_tower(clip, pictures, Budget(2), np.random.default_rng(0))
    between = {name: p.clone() for name, p in clip.named_parameters()}
    changed = {name for name in before if (before[name] != between[name]).any()}
    assert changed
    assert all(name.startswith("visual.") for name in changed)
    train_text_tower(clip, pictures, 2, np.random.default_rng(0))
    changed = {name for name, p in clip.named_parameters() if (between[name] != p).any()}
    assert "token_embedding.weight" in changed
    assert not any(name.startswith("visual.") for name in changed)


@pytest.mark.usefixtures("small_batches")
def test_a_tower_that_goes_on_starts_from_its_weights_and_sees_no_small_crops(
    clip: Any, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts, sides = [], []
    monkeypatch.setattr(towers, "initialise_image_tower", lambda *_: starts.append(True))

    def loss(clip: Any, heads: Any, images: Any, *_: Any) -> Any:
        sides.append(images.shape[-1])
        return heads.state.weight.sum()

    monkeypatch.setattr(towers, "image_tower_loss", loss)
    train_image_tower(clip, pictures, Budget(6), np.random.default_rng(0), continued=True)
    assert not starts
    assert set(sides) == {128, 192}
    train_image_tower(clip, pictures, Budget(1), np.random.default_rng(0))
    assert starts
