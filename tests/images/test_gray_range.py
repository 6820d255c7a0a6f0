"""Deep pixels by one range for a whole run: the same scene, however deep it is stored."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.gray_range import GrayRange
from pipeline.images import ImageError, decode, to_square
from pipeline.images.gray import ranged
from pipeline.schema import ErrorCode
from tests.image_files import fast_square, scene

RGB = np.asarray(scene())
GRAY = RGB[..., 0]
DEEP = GRAY.astype(np.int64) * 16 + GRAY // 16  # 0 to 4095
TWELVE = GrayRange(0, 4095)
WIDE = GrayRange(-5_000, 20_500)  # 100 for each of 255 steps


def tiff(pixels: NDArray[Any], **settings: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **settings)
    return buffer.getvalue()


def png(pixels: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def decoded(data: bytes, gray_range: GrayRange | None = None) -> NDArray[np.uint8]:
    pixels = np.asarray(decode(data, gray_range=gray_range))
    square = fast_square(data, 16, gray_range=gray_range)
    assert (square.height, square.width) == pixels.shape[:2]
    return pixels[..., 0]


def largest(value: int, tag: int = 281) -> dict[str, Any]:
    """MaxSampleValue, or SMaxSampleValue."""
    return {"extratags": [(tag, "H", 1, value, True)]}


@pytest.mark.parametrize(
    ("data", "gray_range"),
    [
        (tiff(DEEP.astype(np.uint16)), TWELVE),
        (tiff(DEEP.astype(np.uint16), compression="zlib"), TWELVE),
        (tiff(DEEP.astype(np.uint16), byteorder=">"), TWELVE),
        (tiff((4095 - DEEP).astype(np.uint16), photometric="miniswhite"), TWELVE),
        (tiff(DEEP.astype(np.uint16), **largest(4095)), TWELVE),
        (png(DEEP.astype(np.uint16)), TWELVE),
        (tiff(DEEP.astype(np.float32)), TWELVE),
        (tiff((DEEP / 4095).astype(np.float32)), GrayRange(0, 1)),
        (tiff((GRAY.astype(np.int16) - 50) * np.int16(100)), WIDE),
        (tiff((GRAY.astype(np.int32) - 50) * 100), WIDE),
        (tiff(3_000_000_000 + DEEP.astype(np.uint32)), GrayRange(3e9, 3e9 + 4095)),
    ],
)
def test_deep_gray_of_any_type_is_the_picture(data: bytes, gray_range: GrayRange) -> None:
    np.testing.assert_array_equal(decoded(data, gray_range), GRAY)


@pytest.mark.parametrize("data", [png(GRAY), png(RGB), tiff(GRAY), tiff(255 - GRAY)])
def test_pixels_of_8_bits_are_what_they_are(data: bytes) -> None:
    np.testing.assert_array_equal(decoded(data, TWELVE), decoded(data))


@pytest.mark.parametrize("tag", [281, 341])
def test_a_cameras_largest_value_is_taken_from_the_file(tag: int) -> None:
    np.testing.assert_array_equal(decoded(tiff(DEEP.astype(np.uint16), **largest(4095, tag))), GRAY)


@pytest.mark.parametrize("value", [3000, 65_535, 0])
def test_the_largest_value_of_one_picture_stretches_nothing(value: int) -> None:
    """TIFF calls the field a statistic; two pictures of one part must stay comparable."""
    deep = DEEP.astype(np.uint16)
    np.testing.assert_array_equal(decoded(tiff(deep, **largest(value))), decoded(tiff(deep)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff(np.where(GRAY > 9, GRAY, np.nan).astype(np.float32)), "no numbers"),
        (tiff(RGB.astype(np.uint16) * 16, photometric="rgb"), "16-bit colours"),
        (tiff(RGB.astype(np.uint16), photometric="rgb", compression="zlib"), "16-bit colours"),
        (tiff((GRAY // 2).astype(np.int8)), "signed integers of 8 bits"),
    ],
)
def test_what_a_range_can_not_help_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words) as refused:
        decode(data, gray_range=TWELVE)
    assert refused.value.code == ErrorCode.UNSUPPORTED_MODE


@pytest.mark.parametrize("pixels", [DEEP.astype(np.float32), DEEP.astype(np.int16)])
def test_what_has_no_range_of_its_own_names_the_flag(pixels: NDArray[Any]) -> None:
    with pytest.raises(ImageError, match=r"no fixed range; give one \(--gray-range\)"):
        decode(tiff(pixels))


def test_16_bit_colours_without_a_range_are_as_before() -> None:
    pixels = np.asarray(decode(tiff(RGB.astype(np.uint16) * 257, photometric="rgb")))
    np.testing.assert_array_equal(pixels, RGB)


def test_values_beyond_the_range_are_black_and_white_and_large_images_go_in_parts() -> None:
    values = np.array([-np.inf, -1, 0, 2047.5, 4095, 5000, np.inf], np.float32)
    assert ranged(values[None], TWELVE).tolist() == [[0, 0, 0, 128, 255, 255, 255]]
    large = np.arange(3 * 2**22, dtype=np.uint16).reshape(3, -1)
    np.testing.assert_array_equal(
        ranged(large, TWELVE)[:, :4096], [ranged(large[0, :4096], TWELVE)] * 3
    )


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9))
def test_a_range_is_found_again_in_the_fingerprint(low: float, width: float) -> None:
    made = GrayRange(float(f"{low:.12g}"), float(f"{low + width:.12g}"))
    found = GrayRange.of(f"3f2a-fast-decoder{made.suffix}+refs-1a")
    assert found == made
    assert GrayRange.of("3f2a-fast-decoder+refs-1a") is None


@pytest.mark.parametrize(
    ("data", "share"),
    [
        (png(DEEP.astype(np.uint16)), np.ptp(DEEP) / 65_535),
        (tiff(RGB.astype(np.uint16) * 16, photometric="rgb"), np.ptp(RGB // 16) / 255),
        (png(GRAY), None),
        (png(RGB), None),
    ],
)
def test_how_much_of_their_range_deep_images_take_is_told(data: bytes, share: float | None) -> None:
    for square in (to_square(decode(data), 16), fast_square(data, 16)):
        assert square.deep_share == (None if share is None else pytest.approx(share))


def test_with_a_range_nothing_is_told() -> None:
    ranged_image = decode(png(DEEP.astype(np.uint16)), gray_range=TWELVE)
    assert to_square(ranged_image, 16).deep_share is None
