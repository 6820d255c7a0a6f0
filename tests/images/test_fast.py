"""The fast decoder: close to the exact one, the same sizes and the same errors."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile
from torchvision import io as io_module

from pipeline.images import ImageError, decode, to_square
from pipeline.synthetic import generate
from tests.bucket import BROKEN
from tests.image_files import fast_square

ORIENTATION, ROTATED = 0x0112, 6  # EXIF: to be shown turned by 90° clockwise
PHOTO = Image.fromarray(generate("gear", "scratch", 1, size=400).image).crop((0, 0, 400, 300))


def encode(file_format: str, image: Image.Image = PHOTO, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [24, 96, 140, 512])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pixels_differ_by_rounding_only(file_format: str, size: int) -> None:
    data = encode(file_format)
    fast, exact = fast_square(data, size), to_square(decode(data), size)
    assert fast.pixels.shape == (size, size, 3)
    assert fast.pixels.dtype == np.uint8
    assert np.abs(fast.pixels.astype(int) - exact.pixels).max() <= 1


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_and_original_size_are_the_exact_decoders(file_format: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    data = encode(file_format, exif=exif)
    fast, exact = fast_square(data, 32), to_square(decode(data), 32)
    assert (fast.width, fast.height) == (exact.width, exact.height) == (300, 400)
    assert np.abs(fast.pixels.astype(int) - exact.pixels).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_modes_become_rgb(mode: str) -> None:
    data = encode("TIFF", PHOTO.convert(mode))
    fast, exact = fast_square(data, 50), to_square(decode(data), 50)
    assert np.abs(fast.pixels.astype(int) - exact.pixels).max() <= 1


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_without_torchvisions_decoders_the_pixels_are_the_same(
    file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(file_format)
    with_them = fast_square(data, 50).pixels
    monkeypatch.delattr(io_module, "decode_jpeg")
    np.testing.assert_array_equal(fast_square(data, 50).pixels, with_them)


def test_plain_jpegs_are_decoded_once_and_not_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    data, loads = encode("JPEG"), list[str]()
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: loads.append(image.format))
    fast_square(data, 50)
    assert not loads


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_gray_and_transparent_and_deep_images_are_the_exact_decoders(file_format: str) -> None:
    deep = Image.fromarray((np.asarray(PHOTO.convert("L")).astype(np.uint16)) * 257)
    images = [PHOTO.convert("L")] if file_format == "JPEG" else [deep, PHOTO.convert("LA")]
    for image in images:
        data = encode(file_format, image)
        fast, exact = fast_square(data, 50), to_square(decode(data), 50)
        assert np.abs(fast.pixels.astype(int) - exact.pixels).max() <= 1
    if file_format == "PNG":
        data = encode("PNG", transparency=PHOTO.getpixel((0, 0)))
        fast, exact = fast_square(data, 50), to_square(decode(data), 50)
        assert np.abs(fast.pixels.astype(int) - exact.pixels).max() <= 1


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_a_file_cut_short_is_truncated_not_half_grey(file_format: str, cut: float) -> None:
    data = encode(file_format)
    with pytest.raises(ImageError) as caught:
        fast_square(data[: int(cut * len(data))], 50)
    assert caught.value.code == "truncated"


def damaged(file_format: str, seed: int) -> bytes:
    """A file with a few bytes changed behind its first hundred."""
    data, rng = bytearray(encode(file_format)), random.Random(seed)
    for _ in range(rng.choice([1, 3, 10])):
        data[rng.randrange(100, len(data))] = rng.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_damaged_bytes_do_not_end_the_process(file_format: str) -> None:
    """torchvision's PNG decoder did (signal 11), for most of these."""
    codes = []
    for seed in range(40):
        try:
            fast_square(damaged(file_format, seed), 32)
        except ImageError as error:
            codes.append(error.code)
    assert set(codes) <= {"truncated"}
    assert file_format == "JPEG" or len(codes) > 20


@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
def test_what_does_not_decode_fails_with_the_same_code(data: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        fast_square(data, 32)
    assert caught.value.code == code


def test_too_large_is_refused_before_decoding() -> None:
    with pytest.raises(ImageError, match="400 x 300"):
        fast_square(encode("JPEG"), 32, max_megapixels=0.1)
