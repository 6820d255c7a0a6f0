"""Bytes → pixels: every kind of image decodes, and everything else fails with the right code."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.images import MEAN, STD, ImageError, decode, preprocess, to_square
from pipeline.schema import ErrorCode
from tests import golden

# Pillow warns about what it finds in damaged files, and above its own pixel limit.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]

ORIENTATION = 0x0112  # EXIF tag
ROTATED = 6  # to be shown turned by 90° clockwise
WIDTH, HEIGHT = 40, 24


def scene() -> Image.Image:
    """A smooth RGB image without symmetry, 40 x 24."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return Image.fromarray(np.stack([x * 6, y * 10, x + y], axis=-1).astype(np.uint8))


def noise() -> Image.Image:
    """An image that no format compresses much, so that every cut takes pixels away."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """The image as bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pixel(data: bytes, x: int = 0, y: int = 0) -> tuple[int, ...]:
    """One pixel of the decoded image."""
    image = decode(data)
    assert image.mode == "RGB"
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def code_of(data: bytes, **options: Any) -> ErrorCode:
    """The code with which decoding fails."""
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    assert str(caught.value)
    return caught.value.code


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG whose header claims a size and whose pixels are missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


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


def test_32_bit_tiff_within_16_bits_is_taken_as_16_bit_gray() -> None:
    values = np.array([[0, 65535]], dtype=np.int32)
    assert np.asarray(decode(encode(Image.fromarray(values), "TIFF")))[0, :, 0].tolist() == [0, 255]


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


# --- what fails -----------------------------------------------------------------------------


def test_no_bytes_are_empty() -> None:
    assert code_of(b"") is ErrorCode.EMPTY


NOT_IMAGES = {
    "text": b"hello world\n",
    "html": b"<!doctype html><html><body>403 Forbidden</body></html>",
    "xml": b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "json": b'{"label": 1}',
    "pdf": b"%PDF-1.7\n1 0 obj\n",
    "zip": b"PK\x03\x04" + bytes(60),
    "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
    "zeros": bytes(200),
    "one byte": b"\xff",
    "random": random.Random(1).randbytes(500),
}


@pytest.mark.parametrize("data", NOT_IMAGES.values(), ids=NOT_IMAGES)
def test_other_files_are_not_images(data: bytes) -> None:
    assert code_of(data) is ErrorCode.NOT_AN_IMAGE


def test_postscript_is_not_run() -> None:
    eps = encode(scene(), "EPS")
    assert Image.open(io.BytesIO(eps)).format == "EPS"  # Pillow alone would start Ghostscript
    assert code_of(eps) is ErrorCode.NOT_AN_IMAGE


SIGNATURE_LENGTH = {"JPEG": 3, "PNG": 6, "WEBP": 12, "TIFF": 4}


@pytest.mark.parametrize("file_format", SIGNATURE_LENGTH)
@pytest.mark.parametrize("fraction", [0.001, 0.003, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99])
def test_cut_files_are_truncated(file_format: str, fraction: float) -> None:
    data = encode(noise(), file_format)
    cut = max(SIGNATURE_LENGTH[file_format], int(len(data) * fraction))
    assert code_of(data[:cut]) is ErrorCode.TRUNCATED


@pytest.mark.parametrize("file_format", SIGNATURE_LENGTH)
@pytest.mark.parametrize("length", range(1, 64))
def test_files_cut_within_their_header_fail_as_images(file_format: str, length: int) -> None:
    code = code_of(encode(noise(), file_format)[:length])
    whole_signature = length >= SIGNATURE_LENGTH[file_format]
    assert code is (ErrorCode.TRUNCATED if whole_signature else ErrorCode.NOT_AN_IMAGE)


@pytest.mark.parametrize("file_format", ["BMP", "PPM", "GIF", "JPEG2000"])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_other_formats_cut_are_truncated(file_format: str, fraction: float) -> None:
    data = encode(noise(), file_format)
    assert code_of(data[: int(len(data) * fraction)]) is ErrorCode.TRUNCATED


def test_a_decompression_bomb_in_metadata_is_an_image_error() -> None:
    bomb = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(5_000_000)))
    assert code_of(png(4, 4, bomb)) is ErrorCode.TRUNCATED


def test_too_many_pixels_are_refused_before_they_are_allocated() -> None:
    data = png(60_000, 60_000)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError) as caught:
            decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert (caught.value.width, caught.value.height) == (60_000, 60_000)
    assert peak < 1_000_000


# Around Pillow's own limits of 89 and 179 megapixels, too.
@pytest.mark.parametrize("size", [(10, 11), (10, 100), (9_500, 10_000), (20_000, 10_000)])
def test_the_limit_is_the_callers_and_the_size_is_told(size: tuple[int, int]) -> None:
    data, megapixels = png(*size), size[0] * size[1] / 1e6
    with pytest.raises(ImageError) as caught:
        decode(data, max_megapixels=megapixels * 0.99)
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert (caught.value.width, caught.value.height) == size


def test_more_pixels_than_pillow_allows_are_fine_within_the_callers_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encode(scene(), "PNG")).size == (WIDTH, HEIGHT)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_an_image_at_the_limit_is_decoded() -> None:
    assert decode(encode(scene(), "PNG"), max_megapixels=WIDTH * HEIGHT / 1e6).size == scene().size


def test_a_tile_larger_than_its_image_is_damage() -> None:
    def entry(tag: int, value: int) -> bytes:
        return struct.pack("<HHII", tag, 4, 1, value)

    tags = {256: 10, 257: 10, 258: 8, 259: 1, 262: 1, 277: 1, 322: 60_000, 323: 60_000}
    tags |= {324: 8, 325: 100}
    body = b"".join(entry(*item) for item in sorted(tags.items()))
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + bytes(100)
    assert code_of(data) is ErrorCode.TRUNCATED


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((4, 4), 0.5, dtype=np.float32),
        np.array([[0, 65_536]], dtype=np.int32),
        np.array([[-1, 0]], dtype=np.int32),
    ],
    ids=["float", "above 16 bits", "negative"],
)
def test_pixels_without_a_fixed_range_are_unsupported(pixels: NDArray[Any]) -> None:
    assert code_of(encode(Image.fromarray(pixels), "TIFF")) is ErrorCode.UNSUPPORTED_MODE


# Each of these once escaped as another exception.
@pytest.mark.parametrize(
    "data",
    [
        b"P6 is not a picture",
        b"P6\n64 48\n",
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(3)),
    ],
)
def test_nonsense_behind_a_signature_is_truncated(data: bytes) -> None:
    assert code_of(data) is ErrorCode.TRUNCATED


VALID = [encode(scene(), name) for name in ("JPEG", "PNG", "WEBP", "TIFF")]


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.sampled_from(VALID),
    edits=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),  # where
            st.integers(0, 4),  # how many bytes go
            st.binary(max_size=4),  # what comes instead
        ),
        min_size=1,
        max_size=6,
    ),
)
@example(data=VALID[1], edits=[((8.5 / len(VALID[1])) ** 0.5, 4, bytes(4))])  # no header
def test_damaged_bytes_give_pixels_or_an_image_error(
    data: bytes, edits: list[tuple[float, int, bytes]]
) -> None:
    for where, gone, new in edits:
        # The square puts most edits near the start, where the headers are.
        at = int(where * where * len(data))
        data = data[:at] + new + data[at + gone :]
    try:
        image = decode(data, max_megapixels=1)
    except ImageError:
        return
    assert image.mode == "RGB"
    assert np.asarray(image).shape == (image.height, image.width, 3)


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
