"""Everything that is not a whole image fails with the right code."""

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

from pipeline.images import ImageError, decode
from pipeline.schema import ErrorCode
from tests.image_files import HEIGHT, WIDTH, chunk, encode, noise, png, scene

# Pillow warns about what it finds in damaged files, and above its own pixel limit.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


def code_of(data: bytes, **options: Any) -> ErrorCode:
    """The code with which decoding fails."""
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    assert str(caught.value)
    return caught.value.code


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
