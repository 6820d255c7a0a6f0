"""Files of images, sound and damaged, for tests of what reads them."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.images import SquareImage
from pipeline.images.extras import PACKAGES, Extra
from pipeline.images.fast import fast_squares

WIDTH, HEIGHT = 40, 24  # of the scene


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


def hide_extras(monkeypatch: pytest.MonkeyPatch, *extras: Extra) -> None:
    """As if the packages of extras were not installed."""
    for extra in extras:
        for name in PACKAGES[extra]:
            monkeypatch.setitem(sys.modules, name, None)


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG whose header claims a size and whose pixels are missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def fast_square(data: bytes, size: int, **options: Any) -> SquareImage:
    """What ``--decoder fast`` makes of an image that is seen whole."""
    found = fast_squares(data, size, **options)
    [pixels] = found.pixels
    return SquareImage(pixels, found.width, found.height, found.deep_share, found.frames)
