"""Products that exist nowhere: every seed invents another, of any outline, surface, part and print.

Trained on a few products, a network learns those products. Among thousands it can only learn what
damage looks like (Tobin et al., "Domain Randomization", IROS 2017). None of the drawing functions
of ``CATEGORIES`` takes part here.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .canvas import (
    Field,
    Product,
    Region,
    Rng,
    inside,
    of_the_station,
    paint,
    pixel_grid,
    placed_grid,
    pose,
)
from .outlines import OUTLINES
from .parts import FEATURES, PRINTS
from .patterns import PATTERNS, any_colour, coarse_noise, covered

MATERIAL_SHARE = 0.3  # of the products fill the picture
ARRAY_SHARE = 0.1  # of the objects are several in rows
MAX_PRINTS = 3
SHEET_TURN = 0.3  # radians: sheets come off a roll, or lie against a stop


def invent(rng: Rng, size: int) -> tuple[Product, str, bool]:
    """A product, a name for it ("marbled disc"), and whether it is printed."""
    pattern = str(rng.choice(list(PATTERNS)))
    if rng.random() < MATERIAL_SHARE:
        return _material(rng, size, pattern)
    outline = str(rng.choice(list(OUTLINES)))
    v, u = pose(rng, size, scale=(0.5, 0.92))
    name = f"{pattern} {outline}"
    if rng.random() < ARRAY_SHARE:
        v, u, name = *_repeated(rng, v, u), f"{name}s"
    distance = OUTLINES[outline](rng, v, u)
    if rng.random() < 0.2:
        distance = np.maximum(distance, rng.uniform(0.08, 0.3) - np.hypot(v, u))
    coverage = inside(distance, rng.uniform(0.015, 0.05))
    surface = covered(rng, pattern, v, u)
    image, printed = _equipped(rng, surface, v, u, 0.55)
    image = _lit(rng, image, coverage > 0.5)
    rng = of_the_station(rng)
    ground = _ground(rng, size)
    shift = rng.uniform(-0.03, 0.03, 2) * size
    shadow = ndimage.shift(ndimage.gaussian_filter(coverage, size / 50), shift, order=1)
    ground = ground * (1 - rng.uniform(0, 0.5) * shadow[..., None])
    return Product(paint(ground, image, coverage), coverage > 0.5, ground), name, printed


def _material(rng: Rng, size: int, pattern: str) -> tuple[Product, str, bool]:
    y, x = placed_grid(rng, size, SHEET_TURN)
    image, printed = _equipped(rng, covered(rng, pattern, y, x), y, x, 0.25)
    ground = _ground(rng, size)
    return Product(image, np.ones((size, size), dtype=bool), ground), f"{pattern} sheet", printed


def _repeated(rng: Rng, v: Field, u: Field) -> tuple[Field, Field]:
    """Coordinates of objects in rows; each fills its cell."""
    count = int(rng.integers(2, 5))
    cells = [2 * ((c * count / 2 + count / 2) % 1) - 1 for c in (v, u)]
    beside = np.maximum(np.abs(v), np.abs(u)) > 1
    return np.where(beside, 9.0, 1.1 * cells[0]), np.where(beside, 9.0, 1.1 * cells[1])


def _equipped(rng: Rng, image: Field, v: Field, u: Field, chance: float) -> tuple[Field, bool]:
    """The surface with parts and prints on it, and whether there are prints."""
    for _ in range(MAX_PRINTS):
        if rng.random() < chance:
            image = FEATURES[rng.integers(len(FEATURES))](rng, image, v, u)
    prints = sum(rng.random() < 0.7 * chance for _ in range(MAX_PRINTS))
    for _ in range(prints):
        image = PRINTS[rng.integers(len(PRINTS))](rng, image, v, u)
    return image, prints > 0


def _lit(rng: Rng, image: Field, body: Region) -> Field:
    """Flat, bevelled or domed, with or without gloss, lit from a side."""
    kind = rng.integers(4)
    if kind == 0:
        return image
    size = len(body)
    depth = ndimage.distance_transform_edt(body)
    reach = max(1.0, depth.max()) if kind >= 2 else rng.uniform(0.02, 0.08) * size
    height = np.sqrt(1 - (1 - np.clip(depth / reach, 0, 1)) ** 2)
    height = ndimage.gaussian_filter(height, size / 90) * reach
    slope_y, slope_x = np.gradient(height)
    steep = np.sqrt(1 + slope_y**2 + slope_x**2)
    angle, low = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.2)
    light = np.array([np.sin(angle), np.cos(angle), low]) / np.hypot(1, low)
    facing = (light[2] - slope_y * light[0] - slope_x * light[1]) / steep
    strength = rng.uniform(0.2, 0.8)
    image = (
        image * (1 - strength + strength * np.clip(facing, 0, 1.2) / max(light[2], 0.4))[..., None]
    )
    if rng.random() < 0.45:
        gloss = np.clip(facing, 0, 1) ** rng.uniform(8, 80)
        image = image + rng.uniform(40, 150) * gloss[..., None]
    if rng.random() < 0.5:
        image = image + _reflections(rng, depth / max(1.0, depth.max()), size)[..., None]
    return image


def _reflections(rng: Rng, depth: Field, size: int) -> Field:
    """Of lamps, in bright lines along the outline where it faces them."""
    slope_y, slope_x = np.gradient(ndimage.gaussian_filter(depth, size / 60))
    steep = np.hypot(slope_y, slope_x) + 1e-9
    shine = np.zeros_like(depth)
    for _ in range(int(rng.integers(1, 4))):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.9)
        facing = (np.sin(angle) * slope_y + np.cos(angle) * slope_x) / steep
        at, width = rng.uniform(0.1, 0.8), rng.uniform(0.03, 0.15)
        line = np.exp(-(((depth - at) / width) ** 2)) * np.clip((facing - reach) / 0.15, 0, 1)
        shine += rng.uniform(30, 130) * line
    return shine


def _ground(rng: Rng, size: int) -> Field:
    """A plain or coloured ground; one in four shows a faint pattern."""
    y, x = pixel_grid(size)
    if rng.random() < 0.25:
        image = covered(rng, str(rng.choice(list(PATTERNS))), y, x)
        mean = image.mean((0, 1))
        return np.asarray(mean + rng.uniform(0.15, 0.6) * (image - mean))
    image = any_colour(rng) + np.zeros((size, size, 3))
    for scale in (1.0, size / 30, size / 6):
        image = image + rng.uniform(0.3, 4) * coarse_noise(rng, size, scale)[..., None]
    return np.asarray(np.clip(image, 5, 250))
