"""Decoders to compare: all give the same picture, and what is called fast is the job's."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.benchmark.decoding import EXACT, decoders
from pipeline.benchmark.photographs import encoded, photograph
from pipeline.images import decode, to_square
from pipeline.images.fast import decode_square

PHOTO = photograph(3, 320, 240)
SIZE = 70


@pytest.mark.parametrize("name", decoders())
def test_every_decoder_gives_the_same_picture(name: str) -> None:
    data = encoded(PHOTO)
    pixels = decoders()[name](data, SIZE)
    exact = to_square(decode(data), SIZE).pixels
    assert pixels.shape == (SIZE, SIZE, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - exact).mean() < 3


def test_the_exact_and_the_fast_one_are_those_of_the_job() -> None:
    data = encoded(PHOTO)
    np.testing.assert_array_equal(
        decoders()[EXACT](data, SIZE), to_square(decode(data), SIZE).pixels
    )
    fast = decoders()["--decoder fast"](data, SIZE)
    np.testing.assert_array_equal(fast, decode_square(data, SIZE).pixels)
