"""Squares are the same with every version of Pillow: rows first, then columns."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.datasets.masks import decode_mask
from pipeline.images import to_square
from pipeline.images.resizing import BICUBIC, MAX_BETWEEN, widened
from pipeline.images.tiles import cut
from pipeline.tiling import Tiling
from tests.image_files import encode, fast_square

SIZE = 48


def noise(width: int, height: int) -> Image.Image:
    """On which the order shows most."""
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def digest(pixels: NDArray[np.generic]) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("size", "known"),
    [
        ((40, 51), "90176f1faf6b4ed7"),
        ((48, 64), "23a1213d6cfd26ac"),
        ((60, 80), "ecb7fe8dd0864df1"),
        ((108, 192), "3d6d6d04e57462ac"),
        ((300, 48), "f971aa23078ae327"),
        ((80, 60), "3b623021d334eebd"),
    ],
)
def test_a_square_is_that_of_the_pillow_which_the_released_code_ran_with(
    size: tuple[int, int], known: str
) -> None:
    """Made by ``Image.resize`` of Pillow 12.3.0."""
    assert digest(to_square(noise(*size), SIZE).pixels) == known


@given(width=st.integers(1, 200), height=st.integers(1, 200), side=st.integers(1, 80))
def test_a_square_takes_rows_first(width: int, height: int, side: int) -> None:
    image = noise(width, height)
    rows_first = image.resize((side, height), BICUBIC).resize((side, side), BICUBIC)
    np.testing.assert_array_equal(to_square(image, side).pixels, np.asarray(rows_first))


def test_a_mask_is_that_of_the_same_pillow() -> None:
    defect = np.random.default_rng(0).random((160, 90)) > 0.5
    data = encode(Image.fromarray(defect.astype(np.uint8) * 255), "PNG")
    assert digest(decode_mask(data, SIZE, width=90, height=160)) == "05ba07111088163a"


@pytest.mark.parametrize("size", [(60, 80), (40, 51), (80, 60)])
def test_another_resize_gives_the_same_but_for_rounding(size: tuple[int, int]) -> None:
    """PyTorch's, which takes rows first, too."""
    image = noise(*size)
    fast = fast_square(encode(image, "PNG"), SIZE).pixels.astype(int)
    assert np.abs(fast - to_square(image, SIZE).pixels).max() <= 1


@pytest.mark.parametrize("size", [(100, 150), (150, 100)])
def test_tiles_take_rows_first_too(size: tuple[int, int]) -> None:
    image = noise(*size)
    layout = Tiling(3, SIZE).layout(*size, side=12)
    whole = widened(image, layout.width * 4).resize((layout.width * 4, layout.height * 4))
    expected = np.asarray(whole).astype(int)
    for tile, (top, left) in zip(cut(image, layout, 4), layout.starts(), strict=True):
        found = expected[top * 4 : top * 4 + SIZE, left * 4 : left * 4 + SIZE]
        assert np.abs(tile - found).max() <= 1


@given(
    width=st.integers(60, 300),
    height=st.integers(60, 300),
    most=st.integers(2, 5),
    size=st.integers(48, 90),
)
def test_rows_of_tiles_are_those_of_the_whole_image_widened(
    width: int, height: int, most: int, size: int
) -> None:
    image = noise(width, height)
    layout = Tiling(most, size).layout(width, height, side=12)
    wide, scale = widened(image, layout.width * 4), height / layout.height
    tiles = cut(image, layout, 4)
    for top in layout.tops:
        box = (0, top * scale, wide.width, min((top + 12) * scale, height))
        row = np.asarray(wide.resize((wide.width, SIZE), BICUBIC, box))
        for left in layout.lefts:
            np.testing.assert_array_equal(next(tiles), row[:, left * 4 : left * 4 + SIZE])


def test_what_is_narrow_and_very_tall_is_not_widened() -> None:
    tall = Image.new("RGB", (1, MAX_BETWEEN // 518 + 1), (1, 2, 3))
    assert widened(tall, 518) is tall
    np.testing.assert_array_equal(to_square(tall, 518).pixels[:, 0], [[1, 2, 3]] * 518)
