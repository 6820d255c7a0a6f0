"""How many pictures a file holds."""

from __future__ import annotations

import io
import struct
import time
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from infra.docs.format_case import GRAY, RGB, pages, pillow
from pipeline.images import decode, to_square
from pipeline.images.frames import tiff_pages


def frames(data: bytes) -> int | None:
    return to_square(decode(data), 8).frames


def stack(**settings: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.stack([GRAY] * 7), **settings)
    return buffer.getvalue()


THUMBNAIL, MASK = (
    (GRAY[::4, ::4], {"subfiletype": 1}),
    (GRAY > 9, {"subfiletype": 4, "photometric": "mask"}),
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        *[(pillow(RGB, kind), 1) for kind in ("JPEG", "PNG", "WEBP", "BMP", "AVIF", "TIFF")],
        (pillow(GRAY, "GIF"), 1),
        *[(pillow(RGB, kind, frames=3), 3) for kind in ("PNG", "AVIF", "TIFF")],
        (pillow(RGB, "WEBP", frames=3, lossless=True), 3),
        (pillow(GRAY, "GIF", frames=200), 200),
        (pillow(GRAY, "GIF", frames=3, comment=b"x" * 3000, loop=0), 3),
        (pages((GRAY, {}), THUMBNAIL, MASK), 1),
        (pages(THUMBNAIL, (GRAY, {}), THUMBNAIL, (GRAY, {})), 2),
        (pages(THUMBNAIL), 1),
        (stack(metadata=None, photometric="minisblack"), 7),
        (stack(bigtiff=True, photometric="minisblack"), 7),
        (stack(byteorder=">", photometric="minisblack"), 7),
        (stack(imagej=True), 7),
    ],
)
def test_frames_and_pages_that_are_no_thumbnails(data: bytes, expected: int) -> None:
    assert frames(data) == expected


def test_pages_that_lead_to_themselves_end() -> None:
    data = bytearray(pages((GRAY, {}), (GRAY, {})))
    (first,) = struct.unpack_from("<I", data, 4)
    (number,) = struct.unpack_from("<H", data, first)
    second = first + 2 + 12 * number
    (at,) = struct.unpack_from("<I", data, second)
    (number,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * number, first)
    assert frames(bytes(data)) == 2


def test_pages_behind_the_files_end_cost_no_image() -> None:
    data = bytearray(pages((GRAY, {})))
    (first,) = struct.unpack_from("<I", data, 4)
    (number,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * number, 2**31)
    assert frames(bytes(data)) is None


def test_more_pages_than_anyone_counts_are_not_counted() -> None:
    """A directory of six bytes: 100,000 of them in a file that is smaller than a photograph."""
    count = 100_000
    data = b"II*\0\x08\0\0\0" + b"".join(
        struct.pack("<HI", 0, 8 + 6 * (i + 1)) for i in range(count)
    )
    started = time.monotonic()
    assert tiff_pages(data) is None
    assert time.monotonic() - started < 5


def test_a_gif_that_is_cut_behind_its_first_frame_is_no_error() -> None:
    image = Image.open(io.BytesIO(pillow(GRAY, "GIF", frames=5)))
    assert image.n_frames == 5  # type: ignore[attr-defined]
    data = pillow(GRAY, "GIF", frames=5)
    assert frames(data[:-30]) in (None, 4, 5)
