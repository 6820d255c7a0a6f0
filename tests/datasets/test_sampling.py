"""What trains in which order is a pure function of the seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pipeline.datasets.sampling import epoch_samples, hold_out, mosaic, parse_mosaic_rates

GROUPS = [("a", "0")] * 30 + [("a", "1")] * 15 + [("b", "0")] * 5
URIS = [f"s3://bucket/{i}.png" for i in range(50)]


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    first = epoch_samples(GROUPS, [0.0] * 50, seed=7, epoch=0)
    assert sorted(first) == [(i,) for i in range(50)]
    assert first == epoch_samples(GROUPS, [0.0] * 50, seed=7, epoch=0)
    assert first != epoch_samples(GROUPS, [0.0] * 50, seed=7, epoch=1)
    assert first != epoch_samples(GROUPS, [0.0] * 50, seed=8, epoch=0)


def test_mosaics_are_four_different_images_of_one_group() -> None:
    samples = epoch_samples(GROUPS, [1.0] * 50, seed=0, epoch=0)
    for sample in samples:
        assert len(set(sample)) == 4
        assert len({GROUPS[i] for i in sample}) == 1
    assert {len(s) for s in epoch_samples(GROUPS, [0.0] * 50, seed=0, epoch=0)} == {1}


def test_the_rate_is_that_of_each_image() -> None:
    rates = [0.2] * 500 + [0.0] * 500
    samples = epoch_samples(["one"] * 1000, rates, seed=0, epoch=0)
    assert 70 <= sum(len(sample) == 4 for sample in samples) <= 130
    alone = {sample[0] for sample in samples if len(sample) == 1}
    assert set(range(500, 1000)) <= alone


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_groups_repeat_images(size: int) -> None:
    for sample in epoch_samples(["one"] * size, [1.0] * size, seed=0, epoch=0):
        assert len(sample) == 4
        assert set(sample) <= set(range(size))


def test_the_held_out_part_is_stratified_and_does_not_depend_on_the_order() -> None:
    held = hold_out(GROUPS, URIS, 0.2, seed=0)
    assert Counter(g for g, out in zip(GROUPS, held, strict=True) if out) == {
        ("a", "0"): 6,
        ("a", "1"): 3,
        ("b", "0"): 1,
    }
    back = hold_out(GROUPS[::-1], URIS[::-1], 0.2, seed=0)
    assert np.array_equal(back[::-1], held)
    assert not np.array_equal(hold_out(GROUPS, URIS, 0.2, seed=1), held)
    assert not hold_out(GROUPS, URIS, 0.0, seed=0).any()


def test_groups_smaller_than_the_share_still_give_their_part() -> None:
    groups = [(str(i // 2),) for i in range(50)]
    assert hold_out(groups, URIS, 0.1, seed=0).sum() == 5


def test_a_mosaic_lies_row_by_row() -> None:
    tiles = [np.full((2, 3, 3), i, dtype=np.uint8) for i in range(4)]
    square = mosaic(tiles)
    assert square.shape == (4, 6, 3)
    assert [square[y, x, 0] for y, x in ((0, 0), (0, 5), (3, 0), (3, 5))] == [0, 1, 2, 3]
    assert mosaic([tile[..., 0] for tile in tiles]).shape == (4, 6)


def test_mosaic_rates_are_the_released_codes_unless_given() -> None:
    assert parse_mosaic_rates([], ["MVTec AD", "mvtec-3d"]) == {"MVTec AD": 0.2, "mvtec-3d": 0.0}
    names = ["mvtec", "visa"]
    assert parse_mosaic_rates([], names) == {"mvtec": 0.2, "visa": 0.0}
    assert parse_mosaic_rates(["0.5"], names) == {"mvtec": 0.5, "visa": 0.5}
    assert parse_mosaic_rates(["visa=1", "0"], names) == {"mvtec": 0.0, "visa": 1.0}


@pytest.mark.parametrize(
    ("rate", "words"), [("visa=2", "from 0 to 1"), ("much", "NAME=RATE"), ("btad=0.1", "mvtec")]
)
def test_a_wrong_mosaic_rate_is_named(rate: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        parse_mosaic_rates([rate], ["mvtec", "visa"])
    assert rate in str(error.value)
