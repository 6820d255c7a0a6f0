"""Photographs of parts that are all alike but for noise, some of them damaged; small and cheap."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def part(
    line: int, number: int, *, damaged: bool = False, size: tuple[int, int] = (96, 64)
) -> bytes:
    """A PNG of a part: each line has its own design, each number its own noise and light.

    Args:
        line: fixes the design.
        number: of the part.
        damaged: whether a stain covers a tenth of it.
        size: width and height in pixels.
    """
    design = np.random.default_rng(line).integers(40, 216, (4, 4, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(design).resize(size, Image.Resampling.BICUBIC), np.float64)
    rng = np.random.default_rng([line, number])
    image = image * rng.normal(1, 0.03) + rng.normal(0, 4, image.shape)
    if damaged:
        height, width = size[1] // 3, size[0] // 3
        top, left = rng.integers(0, size[1] - height), rng.integers(0, size[0] - width)
        stain = rng.integers(0, 256, (height, width, 3))
        image[top : top + height, left : left + width] = stain
    buffer = io.BytesIO()
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def parts(line: int, numbers: range, *, damaged: bool = False) -> dict[str, bytes]:
    """Files of some parts by name."""
    kind = "damaged" if damaged else "part"
    return {f"{kind}-{i}.png": part(line, i, damaged=damaged) for i in numbers}
