"""Generated product images with defects and masks: deterministic by seed, for demos and tests."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Rng = np.random.Generator
Texture = NDArray[np.floating]


@dataclass(frozen=True)
class Sample:
    """One generated photograph."""

    image: NDArray[np.uint8]
    """[size, size, 3] RGB."""
    mask: NDArray[np.bool_]
    """[size, size], true on the defect; empty for a good product."""
    defect: str
    """Name of the defect, "good" for none."""

    def jpeg(self) -> bytes:
        """The image as JPEG bytes."""
        buffer = io.BytesIO()
        Image.fromarray(self.image).save(buffer, "JPEG", quality=92)
        return buffer.getvalue()


def generate(category: str, defect: str, seed: int, size: int = 320) -> Sample:
    """Make one image.

    Args:
        category: a key of ``CATEGORIES``.
        defect: a key of ``DEFECTS``, or "good".
        seed: the same arguments give the same image.
        size: side in pixels.

    Raises:
        ValueError: unknown category or defect.
    """
    if category not in CATEGORIES or defect not in (*DEFECTS, "good"):
        raise ValueError(
            f"no generator for {category!r} with {defect!r}; "
            f"categories: {', '.join(CATEGORIES)}; defects: good, {', '.join(DEFECTS)}"
        )
    rng = np.random.default_rng([seed, *category.encode(), *defect.encode()])
    image = CATEGORIES[category](rng, size)
    mask = np.zeros((size, size), dtype=bool)
    if defect != "good":
        image, mask = DEFECTS[defect](rng, image)
    image = image * _light(rng, size)[..., None] + rng.normal(0, 2.0, image.shape)
    return Sample(np.clip(image, 0, 255).astype(np.uint8), mask, defect)


def _smooth(rng: Rng, size: int, sigma: float | tuple[float, float]) -> Texture:
    """Noise of zero mean and unit variance, smooth over ``sigma`` pixels."""
    noise = ndimage.gaussian_filter(rng.standard_normal((size, size)), sigma, mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std())


def _light(rng: Rng, size: int) -> Texture:
    """Uneven lighting from a random side, around 1."""
    y, x = np.mgrid[-0.5 : 0.5 : size * 1j, -0.5 : 0.5 : size * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    slope = x * np.cos(angle) + y * np.sin(angle)
    return np.asarray(rng.uniform(0.9, 1.1) + rng.uniform(0.05, 0.25) * slope)


def _brushed_metal(rng: Rng, size: int) -> Texture:
    grain = 9 * _smooth(rng, size, (0.6, 25)) + 3 * _smooth(rng, size, (0.4, 4))
    return np.asarray(np.array([168, 172, 178]) + grain[..., None])


def _wood(rng: Rng, size: int) -> Texture:
    y = np.mgrid[0:size, 0:size][0] / size
    rings = np.sin(2 * np.pi * (rng.uniform(6, 10) * y + 0.35 * _smooth(rng, size, (14, 60))))
    grain = 14 * rings + 6 * _smooth(rng, size, (0.7, 18))
    return np.asarray(np.array([176, 128, 82]) + grain[..., None] * np.array([1, 0.85, 0.6]))


def _fabric(rng: Rng, size: int) -> Texture:
    y, x = np.mgrid[0:size, 0:size] * (2 * np.pi / rng.uniform(9, 12))
    over = np.sin(x) * np.sin(y) > 0
    thread = np.where(over, np.abs(np.sin(x)), np.abs(np.sin(y)))
    weave = 38 * thread + 5 * _smooth(rng, size, 1.5) + 6 * _smooth(rng, size, 40)
    return np.asarray(np.array([72, 88, 118]) + weave[..., None])


def _scratch(rng: Rng, image: Texture) -> tuple[Texture, NDArray[np.bool_]]:
    size = len(image)
    t = np.linspace(0, 1, 400)
    points = rng.uniform(0.15, 0.85, (3, 2)) * size
    curve = np.outer((1 - t) ** 2, points[0]) + np.outer(2 * t * (1 - t), points[1])
    curve += np.outer(t**2, points[2])
    line = np.zeros((size, size), bool)
    line[tuple(curve.astype(int).T)] = True
    distance = ndimage.distance_transform_edt(~line)
    width = rng.uniform(1.2, 2.4)
    depth = np.exp(-((distance / width) ** 2))[..., None]
    bright = rng.choice([-70.0, 65.0])
    return image + bright * depth, distance < 1.6 * width


def _blob(rng: Rng, size: int, radius: tuple[float, float]) -> Texture:
    """Signed depth of an irregular spot: above 0 inside."""
    centre, r = rng.uniform(0.2, 0.8, 2) * size, rng.uniform(*radius) * size
    y, x = np.mgrid[0:size, 0:size]
    distance = np.hypot(y - centre[0], x - centre[1])
    return np.asarray((r - distance) / r + 0.22 * _smooth(rng, size, r / 2.5))


def _hole(rng: Rng, image: Texture) -> tuple[Texture, NDArray[np.bool_]]:
    depth = _blob(rng, len(image), (0.03, 0.06))
    inside = np.clip(depth * 6, 0, 1)[..., None]
    rim = np.exp(-((depth / 0.12) ** 2))[..., None]
    return image * (1 - inside) + 22 * inside + 35 * rim * (1 - inside), depth > -0.1


def _stain(rng: Rng, image: Texture) -> tuple[Texture, NDArray[np.bool_]]:
    depth = _blob(rng, len(image), (0.07, 0.13))
    inside = np.clip(depth * 3, 0, 1)[..., None]
    colour = rng.choice(np.array([[120, 60, 30], [40, 70, 50], [60, 30, 70]], np.float32))
    return image * (1 - 0.6 * inside) + colour * 0.6 * inside, depth > 0.05


CATEGORIES: dict[str, Callable[[Rng, int], Texture]] = {
    "metal plate": _brushed_metal,
    "wooden board": _wood,
    "woven fabric": _fabric,
}
DEFECTS: dict[str, Callable[[Rng, Texture], tuple[Texture, NDArray[np.bool_]]]] = {
    "scratch": _scratch,
    "hole": _hole,
    "stain": _stain,
}
