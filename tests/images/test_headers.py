"""What codestreams claim is read as their own decoders read it."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.docs.format_case import RGB_16, U16, encoded
from pipeline.images.headers import Claim, claim

J2K = {"level": 0, "reversible": True}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded("jpeg8", U16, bitspersample=12), Claim(40, 24, 12, 1, kind=0xC1)),
        (encoded("jpeg8", RGB_16, bitspersample=12), Claim(40, 24, 12, 3, kind=0xC1)),
        (encoded("ljpeg", U16, bitspersample=14), Claim(40, 24, 14, 1, kind=0xC3)),
        (encoded("jpegls", U16), Claim(40, 24, 16, 1, kind=0xF7)),
        (encoded("jpeg2k", U16, bitspersample=12, **J2K), Claim(40, 24, 12, 1)),
        (encoded("jpeg2k", RGB_16, codecformat="j2k", **J2K), Claim(40, 24, 16, 3)),
        (encoded("jpeg2k", U16.astype(np.int16), **J2K), Claim(40, 24, 16, 1, signed=True)),
        (encoded("jpegxl", U16, bitspersample=12), Claim(40, 24, 12)),
        (encoded("jpegxl", RGB_16, lossless=True), Claim(40, 24, 16)),
        (encoded("jpegxl", U16.astype(np.float16)), Claim(40, 24, 16, floating=True)),
        (encoded("jpegxl", U16.astype(np.float32)), Claim(40, 24, 32, floating=True)),
        (encoded("jpegxl", np.stack([RGB_16] * 3)), Claim(40, 24, 16, animated=True)),
    ],
)
def test_size_depth_and_kind(data: bytes, expected: Claim) -> None:
    assert claim(data) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from(["u1", "u2", "f4"]))
def test_the_size_of_any_jpeg_xl_image(width: int, height: int, kind: str) -> None:
    """Sizes have four lengths, and seven ratios that leave the width out."""
    for size in ((height, width), (height, height * 16 // 9 + 1), (8, 8)):
        data = imagecodecs.jpegxl_encode(np.zeros(size, kind), lossless=True, effort=1)
        told = claim(data)
        assert told is not None
        assert (told.height, told.width, told.floating) == (*size, kind == "f4")


@pytest.mark.parametrize("codec", ["jpeg8", "jpegls", "jpeg2k", "jpegxl"])
def test_a_cut_header_claims_nothing_or_the_same(codec: str) -> None:
    settings: dict[str, Any] = {"bitspersample": 12} if codec == "jpeg8" else {}
    data = encoded(codec, U16, **settings)
    assert claim(b"") is None
    assert {claim(data[:length]) for length in range(len(data))} == {None, claim(data)}
