"""Deep pixels by one range for a whole run: the same scene, however deep it is stored."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
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


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits"])
@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "i4", "f2", "f4", "f8"])
def test_deep_gray_is_the_picture_in_either_byte_order(
    kind: str, compression: str | None, order: Any
) -> None:
    """Pillow swaps the bytes of compressed integers and floats whose first byte is the highest."""
    least = 0 if kind.startswith("u") else -1_024
    values = (GRAY.astype(np.int64) * 8 + least).astype(kind)
    data = tiff(values, byteorder=order, compression=compression)
    found = decoded(data, GrayRange(least, least + 2_040))
    np.testing.assert_array_equal(found, GRAY)


DEEP_RGB = RGB.astype(np.uint16) * 16 + RGB // 16
ALPHA = np.full_like(DEEP_RGB[..., :1], 777)
PLANES = {"photometric": "rgb", "planarconfig": "separate"}
TURNED = {"extratags": [(274, "H", 1, 6, True)]}


@pytest.mark.parametrize(
    "data",
    [
        imagecodecs.png_encode(DEEP_RGB),
        imagecodecs.png_encode(np.dstack([DEEP_RGB, ALPHA])),
        tiff(DEEP_RGB, photometric="rgb"),
        tiff(DEEP_RGB, photometric="rgb", byteorder=">"),
        tiff(DEEP_RGB, photometric="rgb", compression="zlib", predictor=2),
        tiff(DEEP_RGB, photometric="rgb", byteorder=">", compression="lzw"),
        tiff(DEEP_RGB, photometric="rgb", tile=(16, 16)),
        tiff(DEEP_RGB, photometric="rgb", rowsperstrip=3, compression="packbits"),
        tiff(np.dstack([DEEP_RGB, ALPHA]), photometric="rgb", extrasamples=["unassalpha"]),
        tiff(np.dstack([DEEP_RGB, ALPHA]), photometric="rgb", extrasamples=["unspecified"]),
        tiff(np.moveaxis(DEEP_RGB, -1, 0), **PLANES),
        tiff(np.moveaxis(DEEP_RGB, -1, 0), compression="zlib", **PLANES),
        tiff(np.moveaxis(DEEP_RGB, -1, 0), tile=(16, 16), **PLANES),
        imagecodecs.jpeg2k_encode(DEEP_RGB, bitspersample=12, level=0, reversible=True),
        imagecodecs.jpegxl_encode(DEEP_RGB, lossless=True),
    ],
)
def test_of_deep_colours_a_range_takes_all_bits(data: bytes) -> None:
    np.testing.assert_array_equal(np.asarray(decode(data, gray_range=TWELVE)), RGB)
    assert fast_square(data, 8, gray_range=TWELVE).deep_share is None


def test_deep_colours_that_are_turned_or_interlaced() -> None:
    turned = decode(tiff(DEEP_RGB, photometric="rgb", **TURNED), gray_range=TWELVE)
    np.testing.assert_array_equal(np.asarray(turned), np.rot90(RGB, -1))
    exif = Image.Exif()
    exif[274] = 6
    data, other = imagecodecs.png_encode(DEEP_RGB), io.BytesIO()
    Image.new("L", (1, 1)).save(other, "PNG", exif=exif)
    start = other.getvalue().index(b"eXIf") - 4
    behind = other.getvalue()[
        start : start + 12 + int.from_bytes(other.getvalue()[start : start + 4])
    ]
    data = data[:-12] + behind + data[-12:]  # an orientation that stands behind the pixels
    np.testing.assert_array_equal(np.asarray(decode(data, gray_range=TWELVE)), np.rot90(RGB, -1))


@pytest.mark.parametrize("bits", [2, 4, 7, 9, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_white_and_black_of_jpeg_2000_are_white_and_black(bits: int, channels: int) -> None:
    """Pillow rounds the white of deep colours up to black, and has 240 for white of 4 bits."""
    most = 2**bits - 1
    kind = np.uint8 if bits <= 8 else np.uint16
    values = np.array([[0, most // 3, most]] * 8, kind)
    values = values if channels == 1 else np.dstack([values] * channels)
    data = imagecodecs.jpeg2k_encode(values, bitspersample=bits, level=0, reversible=True)
    pixels = np.asarray(decode(data))[0].tolist()
    middle = (most // 3 * 255 + most // 2) // most
    assert pixels == [[value] * 3 for value in (0, middle, 255)]


def test_gray_of_jpeg_2000_and_netpbm_is_in_values_of_the_file() -> None:
    """Pillow moves the one to the top of 16 bits, and scales the other by its largest value."""
    for bits in (10, 12, 14, 16):
        deep = (GRAY.astype(np.int64) * (2**bits - 1) + 127) // 255
        gray_range = GrayRange(0, 2**bits - 1)
        settings = {"bitspersample": bits, "level": 0, "reversible": True}
        jpeg_2000 = imagecodecs.jpeg2k_encode(deep.astype(np.uint16), **settings)
        pgm = b"P5\n40 24\n%d\n" % (2**bits - 1) + deep.astype(">u2").tobytes()
        for data in (jpeg_2000, pgm):
            np.testing.assert_array_equal(decoded(data, gray_range), GRAY)
            assert abs(decoded(data).astype(int) - GRAY).max() <= 1
    signed = (GRAY.astype(np.int16) - 50) * np.int16(100)
    data = imagecodecs.jpeg2k_encode(signed, level=0, reversible=True)
    np.testing.assert_array_equal(decoded(data, WIDE), GRAY)


@pytest.mark.parametrize("data", [png(GRAY), png(RGB), tiff(GRAY), tiff(255 - GRAY)])
def test_pixels_of_8_bits_are_what_they_are(data: bytes) -> None:
    np.testing.assert_array_equal(decoded(data, TWELVE), decoded(data))


@pytest.mark.parametrize("tag", [281, 341])
def test_a_cameras_largest_value_is_taken_from_the_file(tag: int) -> None:
    np.testing.assert_array_equal(decoded(tiff(DEEP.astype(np.uint16), **largest(4095, tag))), GRAY)


@pytest.mark.parametrize(
    ("low", "high", "counts"), [(0, 4095, True), (0, 3000, False), (100, 4095, False)]
)
def test_a_range_of_imagej_counts_where_it_is_a_cameras(low: int, high: int, counts: bool) -> None:
    deep = DEEP.astype(np.uint16)
    data = tiff(deep, imagej=True, metadata={"min": float(low), "max": float(high)})
    np.testing.assert_array_equal(decoded(data), GRAY if counts else decoded(tiff(deep)))


@pytest.mark.parametrize("value", [3000, 65_535, 0])
def test_the_largest_value_of_one_picture_stretches_nothing(value: int) -> None:
    """TIFF calls the field a statistic; two pictures of one part must stay comparable."""
    deep = DEEP.astype(np.uint16)
    np.testing.assert_array_equal(decoded(tiff(deep, **largest(value))), decoded(tiff(deep)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff(np.where(GRAY > 9, GRAY, np.nan).astype(np.float32)), "no numbers"),
        (tiff(np.where(RGB > 9, RGB, np.nan).astype(np.float32), photometric="rgb"), "no numbers"),
        (b"P3\n1 1\n4095\n0 1 2\n", "a plain PPM of more than 8 bits"),
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
