"""Collections whose pictures share no object: roads, walls, soils, floors, skin, each another view.

The opposite of a production line: what is normal in one picture says little about the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .canvas import Field, Rng, box, colour, fill, inside, paint, pixel_grid, pose
from .outlines import OUTLINES
from .patterns import PATTERNS, any_colour, coarse_noise
from .samples import Sample, any_shot, damage, photograph

SCENE_DEFECTS = ("crack", "hole", "stain", "scratch")
MAX_THINGS = 6
SUNLIGHT = 2.0  # times the slope of a lamp's light in ``any_shot``: outdoors, or hand-held lamps

Thing = Callable[[Rng, Field], Field]


@dataclass(frozen=True)
class Family:
    """What the views of a collection have in common."""

    tones: tuple[tuple[float, float, float], ...]
    patterns: tuple[str, ...]
    """Keys of ``PATTERNS``."""
    things: tuple[Thing, ...]
    """What may lie, stand or fall on the surface without being damage."""


def generate_scene(
    collection: int, number: int, defect: str = "good", *, size: int = 320
) -> Sample:
    """Photograph a surface out of doors or in a house, another one for every number.

    Args:
        collection: fixes the kind of surface, and nothing else.
        number: of the view: its colours, scale, shadows, things on it, light and camera. Another
            defect with the same number gives the same view, damaged otherwise.
        defect: one of ``SCENE_DEFECTS``, or "good".
        size: side in pixels.

    Raises:
        ValueError: unknown defect.
    """
    if defect not in (*SCENE_DEFECTS, "good"):
        raise ValueError(f"no defect {defect!r}; there are: good, {', '.join(SCENE_DEFECTS)}")
    names = list(FAMILIES)
    family = FAMILIES[names[np.random.default_rng(collection).integers(len(names))]]
    view_rng, photograph_rng, defect_rng = (
        np.random.default_rng([collection, number, *text.encode()])
        for text in ("view", "view photographed", f"view {defect}")
    )
    view = fill(view_rng, _view(view_rng, family, size))
    image, mask = view.image, np.zeros((size, size), dtype=bool)
    if defect != "good":
        image, mask = damage(defect_rng, view, defect)
    shot = any_shot(photograph_rng)
    shot = replace(shot, slope=SUNLIGHT * shot.slope)
    return Sample(photograph(photograph_rng, image, shot), mask, defect)


def _view(rng: Rng, family: Family, size: int) -> Field:
    image = _surface(rng, family, size)
    if rng.random() < 0.5:
        image = paint(image, _surface(rng, family, size), _area(rng, size))
    for _ in range(int(rng.integers(1, MAX_THINGS + 1))):
        image = family.things[rng.integers(len(family.things))](rng, image)
    return image


def _surface(rng: Rng, family: Family, size: int) -> Field:
    """[size, size, 3]: a tone of the family and one of its patterns, near or far, seen aslant."""
    y, x = pixel_grid(size)
    angle, near, slant = (
        rng.uniform(0, 2 * np.pi),
        np.exp(rng.uniform(-1, 0.7)),
        rng.uniform(0, 0.5),
    )
    y, x = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    away = near / (1 - slant * y)
    relief = PATTERNS[str(rng.choice(family.patterns))](rng, away * y, away * x)
    relief = rng.uniform(5, 28) * relief
    for scale in (size / rng.uniform(2, 5), size / rng.uniform(8, 30), rng.uniform(0.6, 2)):
        relief = relief + rng.uniform(1, 10) * coarse_noise(rng, size, scale)
    tone = colour(rng, *family.tones, spread=22)
    return np.asarray(np.clip(tone + relief[..., None] * rng.uniform(0.75, 1, 3), 8, 247))


def _area(rng: Rng, size: int) -> Field:
    """Coverage of a large part of the picture: a side of a bent line, or a rectangle."""
    v, u = pose(rng, size, scale=(0.3, 0.9))
    if rng.random() < 0.3:
        return inside(box(v, u, rng.uniform(0.4, 1), 1.0), rng.uniform(0.02, 0.1))
    bend = rng.uniform(0, 0.3) * coarse_noise(rng, size, size / rng.uniform(4, 12))
    return inside(v + bend, rng.uniform(0.02, 0.5))


def _shadow(rng: Rng, image: Field) -> Field:
    """Of something outside the picture, or dapples under a tree."""
    size = len(image)
    if rng.random() < 0.15:
        spots = coarse_noise(rng, size, size / rng.uniform(5, 16)) - rng.uniform(-0.5, 1)
        cover = inside(-spots, rng.uniform(0.8, 2.5))
    else:
        v, u = pose(rng, size, scale=(0.4, 1.4))
        v, u = v - rng.uniform(-0.8, 0.8), u - rng.uniform(-0.8, 0.8)
        cover = inside(OUTLINES[str(rng.choice(list(OUTLINES)))](rng, v, u), rng.uniform(0.03, 0.5))
    return paint(image, image * rng.uniform(0.35, 0.8) * np.array([0.96, 0.99, 1.05]), cover)


def _stripe(rng: Rng, image: Field) -> Field:
    """Paint, tape or a cable across the picture; worn, dashed or whole."""
    size = len(image)
    v, u = pose(rng, size, scale=(0.5, 1.0))
    cover = inside(np.abs(v) - rng.uniform(0.03, 0.25), rng.uniform(0.02, 0.06))
    if rng.random() < 0.3:
        cover = cover * inside(np.abs((rng.uniform(0.4, 1.5) * u) % 1 - 0.5) - 0.28)
    worn = np.clip(coarse_noise(rng, size, rng.uniform(0.8, 4)) + rng.uniform(0, 4), 0, 1)
    light = colour(rng, (235, 233, 226), (225, 180, 50), (150, 150, 148))
    ink = light if rng.random() < 0.6 else any_colour(rng)
    return paint(
        image, ink + 0.4 * (image - image.mean((0, 1))), rng.uniform(0.7, 1) * cover * worn
    )


def _stones(rng: Rng, image: Field) -> Field:
    """A few or many, lit from a side."""
    size = len(image)
    y, x = pixel_grid(size)
    height = np.full((size, size), -1.0)
    largest = rng.uniform(0.04, 0.16)
    for _ in range(int(rng.integers(2, 16))):
        (down, across), radius = rng.uniform(-1, 1, 2), largest * rng.uniform(0.4, 1)
        long = np.hypot(y - down, (x - across) * rng.uniform(0.7, 1.4))
        height = np.maximum(height, 1 - long / radius)
    height = height + 0.15 * coarse_noise(rng, size, max(3.1, largest * size / 3))
    slope_y, slope_x = np.gradient(np.sqrt(np.clip(height, 0, 1)), largest)
    angle = rng.uniform(0, 2 * np.pi)
    lit = rng.uniform(15, 45) * np.clip(np.sin(angle) * slope_y + np.cos(angle) * slope_x, -1, 1)
    tone = colour(rng, (128, 124, 118), (176, 168, 152), (92, 86, 84), (150, 110, 86))
    speckle = 8 * coarse_noise(rng, size, 1.2)
    shaded = paint(image, image * 0.6, inside(-0.3 - height, 0.6))
    return paint(shaded, tone + (lit + speckle)[..., None], inside(-height, 0.15))


def _leaves(rng: Rng, image: Field) -> Field:
    size, tones = len(image), ((74, 104, 42), (176, 134, 46), (140, 74, 38), (112, 128, 60))
    for _ in range(int(rng.integers(1, 7))):
        v, u = pose(rng, size, scale=(0.06, 0.22))
        width, green = rng.uniform(0.3, 0.6), colour(rng, *tones)
        veins = np.minimum(np.abs(v), np.abs((5 * (u - np.abs(v))) % 1 - 0.5) / 5)
        veined = green - 25 * inside(veins - 0.02, 0.05)[..., None]
        image = paint(image, image * 0.7, inside(np.abs(v - 0.1) - width * (1 - u**2), 0.3))
        image = paint(image, veined, inside(np.abs(v) - width * (1 - u**2), 0.06))
    return image


def _cloth(rng: Rng, image: Field) -> Field:
    """Another material over a side of the picture, with a shadow along its hem."""
    size = len(image)
    y, x = pixel_grid(size)
    relief = rng.uniform(5, 25) * PATTERNS[str(rng.choice(list(PATTERNS)))](rng, 2 * y, 2 * x)
    folds = rng.uniform(5, 25) * coarse_noise(rng, size, (size / rng.uniform(3, 12), size / 3))
    v, _ = pose(rng, size, scale=(0.2, 0.5))
    hem = v - rng.uniform(0.6, 2) + 0.1 * coarse_noise(rng, size, size / 6)
    shaded = paint(image, image * 0.6, inside(-hem - 0.1, 0.5))
    return paint(shaded, any_colour(rng) + (relief + folds)[..., None], inside(-hem, 0.04))


def _object(rng: Rng, image: Field) -> Field:
    """A tool, a plate, a lid: anything with an outline and a shadow."""
    v, u = pose(rng, len(image), scale=(0.12, 0.5))
    outline = OUTLINES[str(rng.choice(list(OUTLINES)))](rng, v, u)
    shaded = paint(image, image * 0.6, inside(outline - 0.05, 0.3))
    rim = rng.uniform(-40, 40) * np.exp(-(((outline + 0.08) / 0.06) ** 2))
    return paint(shaded, any_colour(rng) + (rim + 15 * v)[..., None], inside(outline, 0.04))


FAMILIES = {
    "road": Family(
        ((74, 74, 78), (112, 110, 106), (150, 146, 138), (58, 60, 68), (122, 104, 92)),
        ("grained", "speckled", "cloudy"),
        (_stripe, _stripe, _shadow, _leaves, _stones, _object),
    ),
    "wall": Family(
        ((214, 208, 196), (172, 120, 92), (150, 160, 164), (196, 178, 120), (96, 108, 104)),
        ("plain", "cloudy", "bricked", "grained", "brushed"),
        (_shadow, _shadow, _stripe, _object, _leaves, _cloth),
    ),
    "soil": Family(
        ((120, 92, 66), (176, 150, 112), (84, 70, 58), (96, 112, 60), (200, 184, 150)),
        ("grained", "speckled", "cloudy"),
        (_stones, _stones, _leaves, _shadow, _object),
    ),
    "floor": Family(
        ((188, 182, 172), (120, 84, 58), (86, 90, 96), (206, 190, 160), (140, 70, 56)),
        ("checked", "bricked", "marbled", "speckled", "brushed", "netted", "striped"),
        (_shadow, _object, _object, _cloth, _stripe),
    ),
    "skin": Family(
        ((226, 182, 154), (186, 136, 104), (122, 82, 60), (240, 204, 186), (82, 54, 42)),
        ("plain", "grained", "cloudy"),
        (_cloth, _cloth, _shadow, _object),
    ),
}
