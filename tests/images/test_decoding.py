"""Bytes → pixels: every kind of image decodes, and preprocessing is the released code's."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.images import MEAN, STD, ImageError, decode, preprocess, to_square
from pipeline.schema import ErrorCode
from tests import golden
from tests.image_files import HEIGHT, WIDTH, chunk, encode, scene

# Pillow warns about the damaged EXIF.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

ORIENTATION = 0x0112  # EXIF tag
ROTATED = 6  # to be shown turned by 90° clockwise


def pixel(data: bytes, x: int = 0, y: int = 0) -> tuple[int, ...]:
    """One pixel of the decoded image."""
    image = decode(data)
    assert image.mode == "RGB"
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


# --- what decodes ---------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "PPM"])
def test_lossless_formats_keep_every_pixel(file_format: str) -> None:
    np.testing.assert_array_equal(decode(encode(scene(), file_format)), scene())


def test_lossless_webp_keeps_every_pixel() -> None:
    np.testing.assert_array_equal(decode(encode(scene(), "WEBP", lossless=True)), scene())


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "JPEG2000"])
def test_lossy_formats_keep_the_picture(file_format: str) -> None:
    decoded = np.asarray(decode(encode(scene(), file_format, quality=95)), dtype=int)
    assert abs(decoded - np.asarray(scene(), dtype=int)).mean() < 8


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_keeps_every_pixel(compression: str) -> None:
    np.testing.assert_array_equal(decode(encode(scene(), "TIFF", compression=compression)), scene())


def test_gray_becomes_three_equal_channels() -> None:
    assert pixel(encode(Image.new("L", (4, 4), 77), "PNG")) == (77, 77, 77)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_to_8_bits(file_format: str, order: str) -> None:
    values = np.array([[0, 128, 129, 257, 32767, 32768, 65406, 65407, 65535]], dtype=order)
    if file_format == "PNG" and order == ">u2":
        values = values.astype("<u2")  # Pillow writes PNG from native order only
    decoded = np.asarray(decode(encode(Image.fromarray(values), file_format)))
    assert decoded[0, :, 0].tolist() == [0, 0, 1, 1, 127, 128, 254, 255, 255]
    assert (decoded == decoded[..., :1]).all()


def test_32_bit_tiff_is_refused_whatever_its_values() -> None:
    """A rule by values would scale one picture of a camera otherwise than the next."""
    for most in (65_535, 65_536):
        values = np.array([[0, most]], dtype=np.int32)
        with pytest.raises(ImageError, match="of 32 bits have no fixed range"):
            decode(encode(Image.fromarray(values), "TIFF"))


def test_1_bit_becomes_black_and_white() -> None:
    image = Image.new("1", (8, 1))
    image.putpixel((3, 0), 1)
    for file_format in ("PNG", "TIFF"):
        data = encode(image, file_format)
        assert pixel(data, 0) == (0, 0, 0)
        assert pixel(data, 3) == (255, 255, 255)


@pytest.mark.parametrize("transparency", [None, 1, b"\x00\x80\xff"])
@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_palette_gives_its_colours_whatever_is_transparent(
    file_format: str, transparency: int | bytes | None
) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30, 200, 100, 50])
    image.putpixel((2, 0), 2)
    if isinstance(transparency, bytes) and file_format == "GIF":
        transparency = 2  # GIF knows one transparent colour only
    options = {} if transparency is None else {"transparency": transparency}
    data = encode(image, file_format, **options)
    assert pixel(data, 0) == (10, 20, 30)
    assert pixel(data, 2) == (200, 100, 50)


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_transparency_is_dropped_not_blended(alpha: int) -> None:
    assert pixel(encode(Image.new("RGBA", (4, 4), (1, 2, 3, alpha)), "PNG")) == (1, 2, 3)
    assert pixel(encode(Image.new("LA", (4, 4), (77, alpha)), "PNG")) == (77, 77, 77)


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(file_format: str) -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(np.subtract(pixel(encode(red, file_format)), (255, 0, 0))).max() <= 2


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_several(file_format: str) -> None:
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 250))
    data = encode(first, file_format, save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).n_frames == 2  # type: ignore[attr-defined]
    red, _, blue = pixel(data)
    assert red > 200
    assert blue < 50


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(file_format: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    lossless = {"lossless": True} if file_format == "WEBP" else {}
    decoded = decode(encode(scene(), file_format, exif=exif, **lossless))
    upright = scene().transpose(Image.Transpose.ROTATE_270)
    assert decoded.size == (HEIGHT, WIDTH)
    assert abs(np.asarray(decoded, dtype=int) - np.asarray(upright, dtype=int)).mean() < 10


def test_damaged_exif_does_not_cost_the_image() -> None:
    data = encode(scene(), "JPEG")
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert decode(data).size == (WIDTH, HEIGHT)


# --- preprocessing --------------------------------------------------------------------------


def test_to_square_keeps_the_original_size() -> None:
    square = to_square(scene(), 28)
    assert square.pixels.shape == (28, 28, 3)
    assert square.pixels.dtype == np.uint8
    assert (square.width, square.height) == (WIDTH, HEIGHT)


def test_to_square_leaves_a_fitting_image_alone() -> None:
    image = scene().crop((0, 0, HEIGHT, HEIGHT))
    np.testing.assert_array_equal(to_square(image, HEIGHT).pixels, image)


@pytest.mark.parametrize("size", [1, 28, 100])
def test_preprocess_gives_contiguous_float32_channels_first(size: int) -> None:
    array = preprocess(encode(scene(), "PNG"), size)
    assert array.shape == (3, size, size)
    assert array.dtype == np.float32
    assert array.flags.c_contiguous


def test_preprocess_normalises_with_clips_constants() -> None:
    array = preprocess(Image.new("RGB", (9, 5), (255, 0, 51)), 4)
    expected = (np.array([1.0, 0.0, 0.2]) - MEAN) / STD
    np.testing.assert_allclose(array, np.tile(expected[:, None, None], (1, 4, 4)), atol=1e-6)


@pytest.mark.parametrize("case", range(len(golden.CASES)))
def test_preprocess_equals_the_released_code_exactly(case: int) -> None:
    array = preprocess(golden.image_bytes(case), golden.IMAGE_SIZE)
    np.testing.assert_array_equal(array[:, ::7, ::7], golden.values()[f"{case}/pixels"])


@pytest.mark.parametrize("case", range(len(golden.CASES)))
def test_bytes_and_an_opened_image_are_the_same_input(case: int) -> None:
    data = golden.image_bytes(case)
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(preprocess(data, 28), preprocess(opened, 28))


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_preprocess_takes_images_of_any_mode(mode: str) -> None:
    image = scene().convert("L").convert("I").convert(mode) if mode == "I;16" else None
    array = preprocess(image or scene().convert(mode), 28)
    assert np.isfinite(array).all()


def test_preprocess_applies_orientation_to_bytes_and_to_opened_images() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    data = encode(scene(), "PNG", exif=exif)
    upright = preprocess(scene().transpose(Image.Transpose.ROTATE_270), 28)
    np.testing.assert_array_equal(preprocess(data, 28), upright)
    np.testing.assert_array_equal(preprocess(Image.open(io.BytesIO(data)), 28), upright)


def test_preprocess_reports_what_decode_reports() -> None:
    with pytest.raises(ImageError) as caught:
        preprocess(b"not an image", 28)
    assert caught.value.code is ErrorCode.NOT_AN_IMAGE
    with pytest.raises(ImageError) as caught:
        preprocess(Image.new("F", (4, 4)), 28)
    assert caught.value.code is ErrorCode.UNSUPPORTED_MODE


def test_a_thumbnails_jpeg_is_decoded_smaller_but_never_below_what_was_asked() -> None:
    data = encode(scene(), "JPEG", quality=95)
    width, height = scene().size
    side = min(height, width) // 3
    small = decode(data, at_least=side)
    assert small.size == (-(-width // 2), -(-height // 2)), "a third is not offered, a half is"
    assert decode(data, at_least=max(height, width)).size == (width, height)
    assert decode(encode(scene(), "PNG"), at_least=8).size == (width, height)


def exif_with(entries: list[tuple[int, int, int, bytes]]) -> bytes:
    """EXIF of tags, each with its type, count and four bytes of value, in order of the tags."""
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)


UNIT, SHORT, BYTE, LONG = 0x0128, 3, 1, 4
ROTATED_SHORT = (ORIENTATION, SHORT, 1, struct.pack("<I", ROTATED))
ODD_EXIF = {
    "resolution unit as a byte": [ROTATED_SHORT, (UNIT, BYTE, 1, struct.pack("<I", 2))],
    "orientation as a byte": [(ORIENTATION, BYTE, 1, struct.pack("<I", ROTATED))],
    "orientation as a long": [(ORIENTATION, LONG, 1, struct.pack("<I", ROTATED))],
    "a text of numbers": [(0x010E, SHORT, 2, b"\1\0\2\0"), ROTATED_SHORT],
}


@pytest.mark.parametrize("entries", ODD_EXIF.values(), ids=ODD_EXIF)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_oddly_typed_exif_costs_no_image_and_no_turn(
    file_format: str, entries: list[tuple[int, int, int, bytes]]
) -> None:
    decoded = decode(encode(scene(), file_format, exif=exif_with(entries)))
    assert decoded.size == (HEIGHT, WIDTH)


def test_an_image_that_was_turned_is_not_turned_again() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    for file_format in ("JPEG", "PNG", "TIFF"):
        decoded = decode(encode(scene(), file_format, exif=exif))
        assert not decoded.getexif().get(ORIENTATION)
        assert preprocess(decoded, 8).shape == (3, 8, 8)


LARGE = zlib.compress(bytes(2**20 + 1))
LARGE_CHUNKS = {
    "a compressed text": (b"zTXt", b"comment\0\0" + LARGE),
    "an international text": (b"iTXt", b"comment\0\1\0en\0comment\0" + LARGE),
    "a colour profile": (b"iCCP", b"profile\0\0" + LARGE),
}


@pytest.mark.parametrize("parts", LARGE_CHUNKS.values(), ids=LARGE_CHUNKS)
@pytest.mark.parametrize("behind", [False, True])
def test_large_texts_and_profiles_cost_no_image(parts: tuple[bytes, bytes], behind: bool) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    data = encode(scene(), "PNG", exif=exif)
    at = len(data) - 12 if behind else 33  # before the end, or behind the header
    decoded = decode(data[:at] + chunk(*parts) + data[at:])
    upright = scene().transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(decoded, upright)
