"""What files claim is checked before a decoder of an extra takes memory or time for it."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from infra.docs.format_case import GRAY, RGB, TWELVE, U16, encoded, tiff
from infra.docs.formats import CASES
from pipeline.images import ImageError, decode
from pipeline.images.apart import decode_apart
from pipeline.schema import ErrorCode

HUGE = 60_000


def refused(data: bytes, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    return caught.value


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every decoder of imagecodecs and of tifffile fails the test."""

    def called(*arguments: Any, **options: Any) -> None:
        pytest.fail("a decoder was called")

    for name in dir(imagecodecs):
        if name.endswith("_decode"):
            monkeypatch.setattr(imagecodecs, name, called)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", called)


def with_tag(data: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with another value of a tag, an inline number of 2 or 4 bytes."""
    (at,) = struct.unpack_from("<I", data, 4)
    (number,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * number, 12):
        found, kind = struct.unpack_from("<HH", data, entry)
        if found == tag:
            packed = struct.pack("<H2x" if kind == 3 else "<I", value)
            return data[: entry + 8] + packed + data[entry + 12 :]
    raise KeyError(tag)


def jpeg_of_size(data: bytes, height: int, width: int) -> bytes:
    """A JPEG, or a part of another file that is one, with another size in its frame's header."""
    old = struct.pack(">HH", 24, 40)
    assert data.count(old) == 1
    return data.replace(old, struct.pack(">HH", height, width))


JPEG_XL_OF_2_TO_30 = b"\xff\x0a\xfe" + b"\xff" * 60  # rows, and twice as many columns
WIDTH, HEIGHT, TILE_WIDTH, TILE_HEIGHT = 256, 257, 322, 323
TEN_BITS = tiff(U16 >> 2, bitspersample=10)
TILES = tiff(
    np.dstack([U16, U16]), tile=(16, 16), extrasamples=["unassalpha"], planarconfig="contig"
)


@pytest.mark.parametrize(
    "data",
    [
        jpeg_of_size(encoded("jpeg8", U16, bitspersample=12), HUGE, HUGE),
        jpeg_of_size(encoded("ljpeg", U16, bitspersample=12), HUGE, HUGE),
        jpeg_of_size(encoded("jpegls", RGB), HUGE, HUGE),
        JPEG_XL_OF_2_TO_30,
        with_tag(with_tag(TEN_BITS, WIDTH, HUGE), HEIGHT, HUGE),
        with_tag(with_tag(TILES, TILE_WIDTH, HUGE), TILE_HEIGHT, HUGE),
        tiff(np.zeros((120, 100, 3), np.float64)),  # within the pixels, not within the bytes
    ],
)
def test_a_size_above_the_limit_is_refused_before_it_is_decoded(
    data: bytes, no_decoder: None
) -> None:
    error = refused(data, max_megapixels=0.02)
    assert error.code == ErrorCode.TOO_LARGE
    assert error.width is not None
    assert error.height is not None
    assert str(error).endswith("the limit is 0.02 megapixels")


def part_of(data: bytes, replace: Callable[[bytes], bytes]) -> bytes:
    """A TIFF with another strip of the same length."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        offset, length = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    changed = replace(data[offset : offset + length])
    assert len(changed) == length
    return data[:offset] + changed + data[offset + length :]


def lerc_of_size(part: bytes) -> bytes:
    return part[:14] + struct.pack("<2i", HUGE, HUGE) + part[22:]


def jpeg_2000_of_size(part: bytes) -> bytes:
    old = struct.pack(">2I", 40, 24)
    return part.replace(old, struct.pack(">2I", HUGE, HUGE))


@pytest.mark.parametrize(
    ("compression", "replace"), [("lerc", lerc_of_size), ("jpeg2000", jpeg_2000_of_size)]
)
def test_a_strip_that_claims_more_than_its_page_is_not_decoded(
    compression: str, replace: Callable[[bytes], bytes], no_decoder: None
) -> None:
    error = refused(part_of(tiff(U16, compression=compression), replace))
    assert (error.code, "(ValueError)" in str(error)) == (ErrorCode.TRUNCATED, True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff(np.dstack([GRAY] * 8), planarconfig="contig"), "8 samples a pixel"),
        (tiff(TWELVE.astype(np.complex64)), "complex64 samples"),
        (tiff(U16, compression="jpegxr"), "JPEGXR"),
        (with_tag(TEN_BITS, 262, 32803), "a raw camera file|CFA"),
        (
            jpeg_of_size(encoded("jpeg8", np.dstack([U16] * 4), bitspersample=12), 24, 40),
            "4 samples",
        ),
    ],
)
def test_kinds_that_no_decoder_gives_right_are_named(data: bytes, words: str) -> None:
    error = refused(data)
    assert error.code == ErrorCode.UNSUPPORTED_MODE
    assert any(word in str(error) for word in words.split("|"))
    assert "before upload" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize("words", [each.words for each in CASES if each.extras])
def test_files_that_are_cut_fail_as_images(words: str) -> None:
    """Apart: what a decoder makes of damage is its own."""
    [case] = [each for each in CASES if each.words == words]
    data = case.make()
    code = None
    try:
        decode_apart(data[: len(data) * 3 // 4], max_megapixels=1, gray_range=case.gray_range)
    except ImageError as error:
        code = error.code
    assert code not in (ErrorCode.KILLED_READER, ErrorCode.EMPTY)
