"""Pictures in memory: twins, pairs, and the crops that are cut from them."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.small_model import Pictures
from pipeline.small_model.pictures import recolour
from pipeline.synthetic import generate

SIZE = 96


def test_twins_are_one_product_and_pairs_are_two() -> None:
    twins = Pictures.draw(("washer", "cork"), 2, SIZE, seed=3)
    assert twins.images.shape == (8, SIZE, SIZE, 3)
    assert twins.masks.any((1, 2)).tolist() == [False, True] * 4
    assert [twins.names[i] for i in twins.categories] == 2 * (["washer"] * 2 + ["cork"] * 2)
    np.testing.assert_array_equal(twins.images[0], generate("washer", "good", 3, SIZE).image)
    np.testing.assert_array_equal(twins.images[1], generate("washer", "scratch", 3, SIZE).image)
    pairs = Pictures.draw(("washer",), 2, SIZE, seed=3, twins=False)
    for number, (defect, seed) in enumerate((("good", 4), ("scratch", 3), ("good", 6))):
        expected = generate("washer", defect, seed, SIZE).image
        np.testing.assert_array_equal(pairs.images[number], expected)


def test_invented_pictures_join_the_named_ones_under_their_own_names() -> None:
    named = Pictures.draw(("washer",), 1, SIZE, seed=0)
    invented = Pictures.invent(5, SIZE, seed=0)
    both = named + invented
    assert len(both.images) == 12
    assert both.names == ("washer", *invented.names)
    assert [both.names[i] for i in both.categories[2:]] == [
        invented.names[i] for i in invented.categories
    ]


def test_batches_hold_as_many_good_as_damaged_and_views_show_the_damage() -> None:
    pictures = Pictures.draw(("washer", "cork"), 4, SIZE, seed=0)
    rng = np.random.default_rng(0)
    chosen = pictures.twins(rng, 32)
    np.testing.assert_array_equal(chosen[:16] + 1, chosen[16:])
    views = pictures.views(rng, chosen, 32)
    assert views.images.shape == views.sound.shape == (32, 3, 32, 32)
    damaged = views.masks.flatten(1).any(1)
    assert not damaged[:16].any()
    assert damaged[16:].sum() > 8
    np.testing.assert_array_equal(views.categories, pictures.categories[chosen])


def test_a_view_as_large_as_the_picture_is_the_picture_turned_with_its_mask() -> None:
    pictures = Pictures.draw(("cork",), 3, SIZE, seed=0)
    views = pictures.views(np.random.default_rng(1), np.arange(6), SIZE)
    assert views.masks.sum((1, 2)).tolist() == pictures.masks.sum((1, 2)).tolist()


def test_beside_a_damaged_product_stands_its_good_twin_in_the_same_view() -> None:
    pictures = Pictures.draw(("cork",), 3, SIZE, seed=0)
    views = pictures.views(np.random.default_rng(1), np.arange(6), SIZE)
    change = (views.images - views.sound).abs().amax(1)
    assert not change[::2].any()
    damage = views.masks[1::2].bool()
    assert change[1::2][damage].mean() > 5 * change[1::2][~damage].mean()


def test_recolouring_leaves_some_as_they_are_and_all_within_range() -> None:
    images = torch.rand(40, 1, 3, 8, 8).repeat(1, 2, 1, 1, 1)
    other = recolour(np.random.default_rng(0), images)
    torch.testing.assert_close(other[:, 0], other[:, 1])
    same = (other == images).flatten(1).all(1)
    assert 2 <= same.sum() <= 25
    assert other.min() >= 0
    assert other.max() <= 1
