"""Generated product images: the same for the same seed, with the defect where the mask says."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from pipeline.synthetic import (
    CATEGORIES,
    DEFECTS,
    TEST_CATEGORIES,
    TRAIN_CATEGORIES,
    Sample,
    generate,
)
from pipeline.synthetic.canvas import Product, Rng

CASES = [(category, defect) for category, kind in CATEGORIES.items() for defect in kind.defects]
VISIBLE = 15  # grey values


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_good_product_has_an_empty_mask(category: str) -> None:
    sample = generate(category, "good", 0, size=96)
    assert sample.image.shape == (96, 96, 3)
    assert sample.image.dtype == np.uint8
    assert sample.image.std() > 3
    assert not sample.mask.any()


@pytest.fixture(scope="module")
def products_once() -> Iterator[None]:
    """Every product is drawn but once; it is the same, whatever the defect."""

    def once(draw: Callable[[Rng, int], Product]) -> Callable[[Rng, int], Product]:
        drawn: dict[str, Product] = {}

        def product(rng: Rng, size: int) -> Product:
            key = f"{rng.bit_generator.state} {size}"
            if key not in drawn:
                drawn[key] = draw(rng, size)
                for array in vars(drawn[key]).values():
                    array.flags.writeable = False
            return drawn[key]

        return product

    with pytest.MonkeyPatch.context() as patch:
        for name, kind in CATEGORIES.items():
            patch.setitem(CATEGORIES, name, replace(kind, draw=once(kind.draw)))
        yield


@cache
def sound_product(category: str, seed: int) -> Sample:
    return generate(category, "good", seed, size=160)


@pytest.mark.usefixtures("products_once")
@pytest.mark.parametrize(("category", "defect"), CASES)
def test_a_defect_shows_inside_its_mask_and_hardly_beside_it(category: str, defect: str) -> None:
    inside, beside, area = 0, 0, 0
    for seed in range(3):
        sound = sound_product(category, seed)
        damaged = generate(category, defect, seed, size=160)
        changed = np.abs(damaged.image.astype(int) - sound.image).max(axis=-1) > VISIBLE
        assert 0.0002 < damaged.mask.mean() < 0.15
        area += damaged.mask.sum()
        inside += changed[damaged.mask].sum()
        beside += (changed & ~ndimage.binary_dilation(damaged.mask, iterations=16)).sum()
    assert inside > 0.25 * area
    assert area > 3 * 0.004 * 160**2, "too small for anybody to notice"
    assert beside < 0.6 * inside


def test_every_defect_occurs_and_test_categories_are_no_training_categories() -> None:
    assert {defect for _, defect in CASES} == set(DEFECTS)
    assert sorted(TRAIN_CATEGORIES + TEST_CATEGORIES) == sorted(CATEGORIES)


def test_the_seed_decides_everything() -> None:
    first, again = (generate("woven fabric", "stain", 7, size=64) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    assert (generate("woven fabric", "stain", 8, size=64).image != first.image).any()


def test_jpeg_and_png_bytes_are_the_image_and_the_mask() -> None:
    sample = generate("wooden board", "hole", 1, size=64)
    decoded = np.asarray(Image.open(io.BytesIO(sample.jpeg())), dtype=int)
    assert np.abs(decoded - sample.image).mean() < 5
    mask = np.asarray(Image.open(io.BytesIO(sample.mask_png())))
    np.testing.assert_array_equal(mask == 255, sample.mask)
    assert set(np.unique(mask)) == {0, 255}


def test_an_unknown_product_or_defect_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'cheese'.*metal plate"):
        generate("cheese", "good", 0)
    with pytest.raises(ValueError, match=r"'washer' has no defect 'misprint'.*scratch"):
        generate("washer", "misprint", 0)
