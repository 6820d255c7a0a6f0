"""TIFF pages as they are meant, written by tifffile: the same scene, however it is stored."""

from __future__ import annotations

import io
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from pipeline.images import ImageError, decode
from pipeline.schema import ErrorCode
from tests.image_files import HEIGHT, WIDTH, fast_square, scene

RGB = np.asarray(scene())
GRAY = RGB[..., 0]
RGB_16, GRAY_16 = RGB.astype(np.uint16) * 257, GRAY.astype(np.uint16) * 257
ALPHA = np.full_like(GRAY_16, 30_000)


def written(*pages: tuple[NDArray[Any], dict[str, Any]], order: str = "<") -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=order) as file:
        for pixels, settings in pages:
            file.write(pixels, **settings)
    return buffer.getvalue()


def planes(*more: NDArray[Any]) -> NDArray[Any]:
    return np.stack([*np.moveaxis(RGB_16, -1, 0), *more])


SEPARATE = {"photometric": "rgb", "planarconfig": "separate"}
WHITE_IS_ZERO = {"photometric": "miniswhite"}
GRAY_ALPHA = {"extrasamples": ["unassalpha"], "planarconfig": "contig"}
ROTATED = {"extratags": [(274, "H", 1, 6, True)]}
THUMBNAIL = GRAY[::4, ::4], {"subfiletype": 1}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (written((GRAY_16, {})), GRAY),
        (written((RGB_16, {"photometric": "rgb"})), RGB),
        (written((planes(), SEPARATE)), RGB),
        (written((planes(), SEPARATE), order=">"), RGB),
        (written((planes(), SEPARATE | {"rowsperstrip": 5})), RGB),
        (written((planes(), SEPARATE | {"compression": "zlib"})), RGB),
        (written((planes(ALPHA), SEPARATE | {"extrasamples": ["unassalpha"]})), RGB),
        (written((255 - GRAY, WHITE_IS_ZERO)), GRAY),
        (written((65_535 - GRAY_16, WHITE_IS_ZERO)), GRAY),
        (written((65_535 - GRAY_16, WHITE_IS_ZERO | {"compression": "zlib"})), GRAY),
        (written(THUMBNAIL, (GRAY, {})), GRAY),
        (written((GRAY, {}), THUMBNAIL), GRAY),
        (written(THUMBNAIL, THUMBNAIL, (RGB, {"photometric": "rgb"})), RGB),
        (written(THUMBNAIL), GRAY[::4, ::4]),
        # Not by Pillow, but by tifffile.
        (written((GRAY[::4, ::4], {"subfiletype": 1, "subifds": 1}), (GRAY, {})), GRAY),
        (written((planes(), SEPARATE | {"tile": (16, 16)})), RGB),
        (written(THUMBNAIL, (np.dstack([GRAY_16, ALPHA]), GRAY_ALPHA)), GRAY),
        (written((np.dstack([GRAY_16, ALPHA]), GRAY_ALPHA | ROTATED)), np.rot90(GRAY, -1)),
    ],
)
def test_the_picture_is_the_same_however_it_is_stored(
    data: bytes, expected: NDArray[np.uint8]
) -> None:
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=-1)
    pixels = np.asarray(decode(data))
    np.testing.assert_array_equal(pixels, expected)
    square = fast_square(data, 16)
    assert (square.height, square.width) == expected.shape[:2]


def test_the_orientation_turns_separate_planes_too() -> None:
    turned = np.asarray(decode(written((planes(), SEPARATE | ROTATED))))
    np.testing.assert_array_equal(turned, np.rot90(RGB, -1))


def test_gray_of_12_bits_is_scaled_from_its_own_range() -> None:
    values = (GRAY.astype(np.uint32) * 16 + GRAY // 16).ravel()
    pairs = values[0::2] << 12 | values[1::2]
    strip = pairs[:, None] >> np.array([16, 8, 0]) & 255
    body = strip.astype(np.uint8).tobytes()
    tags = {256: WIDTH, 257: HEIGHT, 258: 12, 259: 1, 262: 1, 273: 122, 277: 1, 278: HEIGHT}
    tags[279] = len(body)
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items())]
    data = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(entries) + bytes(4) + body
    np.testing.assert_array_equal(np.asarray(decode(data))[..., 0], GRAY)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (written(((GRAY_16 // 2).astype(np.int16), {})), "signed integers of 16 bits"),
        (written(((GRAY // 2).astype(np.int8), {})), "signed integers of 8 bits"),
        (written((GRAY_16.astype(np.uint32), {})), "integers of 32 bits"),
        (written((GRAY, {"extratags": [(50706, "B", 4, b"\1\4\0\0", True)]})), "a raw camera file"),
        (written((planes(ALPHA), SEPARATE | {"extrasamples": ["assocalpha"]})), "premultiplied"),
        (written(THUMBNAIL, (GRAY.astype(np.float16), {})), "floating-point values of 16 bits"),
    ],
)
def test_what_has_no_fixed_range_or_picture_is_refused_by_what_it_declares(
    data: bytes, words: str
) -> None:
    for decoded in (decode, lambda data: fast_square(data, 16)):
        with pytest.raises(ImageError, match=words) as refused:
            decoded(data)
        assert refused.value.code == ErrorCode.UNSUPPORTED_MODE


def test_separate_planes_that_are_cut_short_are_truncated() -> None:
    data = written((planes(), SEPARATE | {"rowsperstrip": HEIGHT}))
    with pytest.raises(ImageError) as refused:
        decode(data[:-100])
    assert refused.value.code == ErrorCode.TRUNCATED


def test_strips_that_claim_more_than_the_picture_take_no_more_memory() -> None:
    pixels = np.full((3, 256, 256), 0x4000, np.uint16)
    data = written((pixels, SEPARATE | {"rowsperstrip": 256})) + bytes(30_000_000)
    lengths = struct.pack("<3I", *[pixels[0].nbytes] * 3)
    assert data.count(lengths) == 1
    data = data.replace(lengths, struct.pack("<3I", *[29_000_000] * 3))
    tracemalloc.start()
    try:
        assert (np.asarray(decode(data)) == 0x40).all()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_a_large_picture_behind_a_thumbnail_is_too_large() -> None:
    data = written(THUMBNAIL, (np.zeros((300, 400), np.uint8), {}))
    with pytest.raises(ImageError) as refused:
        decode(data, max_megapixels=0.1)
    assert (refused.value.code, refused.value.width) == (ErrorCode.TOO_LARGE, 400)
