"""Generated product images: the same for the same seed, with the defect where the mask says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.synthetic import CATEGORIES, DEFECTS, generate


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_good_product_has_an_empty_mask(category: str) -> None:
    sample = generate(category, "good", 0, size=96)
    assert sample.image.shape == (96, 96, 3)
    assert sample.image.dtype == np.uint8
    assert not sample.mask.any()


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("seed", range(5))
def test_a_defect_is_visible_inside_its_mask_and_small(defect: str, seed: int) -> None:
    sample = generate("metal plate", defect, seed)
    assert 0.0005 < sample.mask.mean() < 0.15
    inside = sample.image[sample.mask].mean(axis=0)
    outside = sample.image[~sample.mask].mean(axis=0)
    assert np.abs(inside - outside).max() > 10


def test_the_seed_decides_everything() -> None:
    first, again = (generate("woven fabric", "stain", 7, size=64) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    assert (generate("woven fabric", "stain", 8, size=64).image != first.image).any()


def test_jpeg_bytes_are_the_image() -> None:
    sample = generate("wooden board", "good", 1, size=64)
    decoded = np.asarray(Image.open(io.BytesIO(sample.jpeg())), dtype=int)
    assert np.abs(decoded - sample.image).mean() < 5


def test_an_unknown_product_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'cheese'.*metal plate"):
        generate("cheese", "good", 0)
