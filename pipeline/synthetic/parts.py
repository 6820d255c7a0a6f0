"""What invented products carry: prints, and parts that stand out or are let in, all regular."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Field, Rng, around, box, inside, letters, paint
from .outlines import OUTLINES
from .patterns import any_colour

Part = Callable[[Rng, Field, Field, Field], Field]


def _contrast(rng: Rng, image: Field) -> Field:
    """A colour that shows on most of the image."""
    base = image[:: max(1, len(image) // 16), :: max(1, len(image) // 16)].mean((0, 1))
    colours = [any_colour(rng) for _ in range(3)] + [np.full(3, 240.0 if base.mean() < 128 else 25)]
    far = [c for c in colours if np.abs(c - base).sum() > 120]
    return np.asarray(far[0] if far else colours[-1])


def _somewhere(rng: Rng, v: Field, u: Field, reach: float) -> tuple[Field, Field]:
    """Half the time in the middle, else moved and turned."""
    if rng.random() < 0.5:
        return v, u
    angle = rng.choice([0, 0.5, 1, 1.5, rng.uniform(0, 2)]) * np.pi
    v, u = v - rng.uniform(-reach, reach), u - rng.uniform(-reach, reach)
    return np.cos(angle) * v - np.sin(angle) * u, np.sin(angle) * v + np.cos(angle) * u


def _text(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    y, x = _somewhere(rng, v, u, 0.4)
    rows, half = int(rng.integers(1, 5)), rng.uniform(0.2, 0.8)
    height = rows * rng.uniform(0.04, 0.12)
    cover = letters(rng, y, x, rows=rows, half_width=half, half_height=height)
    return paint(image, _contrast(rng, image), rng.uniform(0.6, 1) * cover)


def _circle(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    radius, ink = np.hypot(v, u), _contrast(rng, image)
    for _ in range(int(rng.integers(1, 4))):
        image = paint(
            image, ink, inside(np.abs(radius - rng.uniform(0.3, 0.9)) - rng.uniform(0.01, 0.05))
        )
    return image


def _logo(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    y, x = _somewhere(rng, v, u, 0.4)
    extent = rng.uniform(0.15, 0.5)
    outline = OUTLINES[str(rng.choice(list(OUTLINES)))](rng, y / extent, x / extent) * extent
    ink = _contrast(rng, image)
    if rng.random() < 0.3:
        outline = np.abs(outline) - 0.03
    return paint(image, ink, rng.uniform(0.7, 1) * inside(outline))


def _band(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    y = v if rng.random() < 0.5 else u
    return paint(
        image, any_colour(rng), inside(np.abs(y - rng.uniform(-0.6, 0.6)) - rng.uniform(0.03, 0.3))
    )


def _half(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    return paint(image, image * 0.3 + 0.7 * any_colour(rng), inside(u - rng.uniform(-0.6, 0.6)))


def _ticks(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    count, radius = int(rng.integers(6, 49)), np.hypot(v, u)
    tick = np.abs((np.arctan2(v, u) / (2 * np.pi) * count) % 1 - 0.5) * 2 * np.pi * radius / count
    at = rng.uniform(0.5, 0.85)
    cover = inside(np.maximum(tick - rng.uniform(0.01, 0.03), np.abs(radius - at) - 0.08))
    return paint(image, _contrast(rng, image), cover)


def _bars(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    y, x = _somewhere(rng, v, u, 0.4)
    half, high, count = rng.uniform(0.2, 0.6), rng.uniform(0.08, 0.25), int(rng.integers(16, 50))
    bars = (rng.random(count) < 0.5)[np.clip((x / half + 1) / 2 * count, 0, count - 1).astype(int)]
    if rng.random() < 0.5:
        image = paint(image, np.full(3, 235.0), inside(box(y, x, high + 0.05, half + 0.05)))
    return paint(image, np.full(3, 30.0), inside(box(y, x, high, half)) * bars)


def _sticker(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    y, x = _somewhere(rng, v, u, 0.4)
    half, high = rng.uniform(0.2, 0.5), rng.uniform(0.1, 0.3)
    image = paint(image, rng.uniform(180, 245) + np.zeros(3), inside(box(y, x, high, half, 0.03)))
    cover = letters(rng, y, x, rows=2, half_width=0.8 * half, half_height=0.7 * high)
    return paint(image, any_colour(rng) * 0.4, cover)


def _bolts(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    """Holes, studs or slotted screws on a circle or in the corners."""
    count, at, radius = int(rng.integers(2, 10)), rng.uniform(0.35, 0.8), rng.uniform(0.04, 0.12)
    near = around(v, u, count, at)
    if rng.random() < 0.3:
        near = np.hypot(np.abs(v) - at * 0.9, np.abs(u) - at * 0.9)
    kind = rng.integers(3)
    if kind == 0:
        return paint(image, rng.uniform(10, 60) + np.zeros(3), inside(near - radius, 0.03))
    lit = np.clip((near / radius) ** 3, 0, 1) * rng.uniform(-40, 40)
    image = paint(image, any_colour(rng) + lit[..., None], inside(near - radius, 0.03))
    if kind == 1:
        slot = np.maximum(np.abs((v + u) % 0.5 - 0.25) - 0.2, near - 0.8 * radius)
        image = paint(image, image * 0.5, inside(slot))
    return image


def _ribs(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    """Raised or sunk ribs, radial or parallel."""
    if rng.random() < 0.5:
        count = int(rng.integers(3, 13))
        near = np.abs(np.sin(count * np.arctan2(v, u) / 2)) * np.hypot(v, u) * 2 / count
    else:
        near = np.abs((rng.uniform(1, 5) * v + rng.random()) % 1 - 0.5)
    return image + rng.uniform(-40, 40) * inside(near - rng.uniform(0.02, 0.08), 0.06)[..., None]


def _steps(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    """A raised hub, a sunk panel, a groove: of any outline around the centre."""
    extent = rng.uniform(0.3, 0.8)
    outline = OUTLINES[str(rng.choice(list(OUTLINES)))](rng, v / extent, u / extent) * extent
    image = image + rng.uniform(-35, 35) * inside(outline, 0.06)[..., None]
    angle = rng.uniform(0, 2 * np.pi)
    lit = rng.uniform(20, 90) * (np.cos(angle) * v + np.sin(angle) * u)
    edge = np.exp(-((outline / rng.uniform(0.02, 0.06)) ** 2))
    return np.asarray(image + (lit * edge)[..., None])


def _bore(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    radius, reach = np.hypot(v, u), rng.uniform(0.08, 0.35)
    image = paint(image, rng.uniform(8, 70) + np.zeros(3), inside(radius - reach, 0.03))
    return image + rng.uniform(-30, 45) * np.exp(-(((radius - reach) / 0.04) ** 2))[..., None]


def _folds(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    """Folds or knurls towards the rim, or along two sides."""
    count, start = int(rng.integers(10, 60)), rng.uniform(0.55, 0.88)
    if rng.random() < 0.7:
        wave, edge = np.sin(count * np.arctan2(v, u)), np.hypot(v, u)
    else:
        wave, edge = np.sin(count * u), np.abs(v)
    deep = wave * np.clip((edge - start) / 0.2, 0, 1)
    return np.asarray(image + rng.uniform(12, 45) * deep[..., None])


def _pins(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    """Rows of square or round pins, holes or keys."""
    columns, rows, half = int(rng.integers(3, 10)), int(rng.integers(1, 4)), rng.uniform(0.4, 0.85)
    pitch = 2 * half / columns
    high, at = rows * pitch / 2, rng.uniform(-0.4, 0.4)
    dv, du = ((v - at + high) / pitch) % 1 - 0.5, ((u + half) / pitch) % 1 - 0.5
    far = np.maximum(np.abs(dv), np.abs(du)) if rng.random() < 0.5 else np.hypot(dv, du)
    cover = inside(far - rng.uniform(0.15, 0.38), 0.08) * inside(box(v - at, u, high, half))
    lit = rng.uniform(0, 60) * np.clip(dv - du, -0.5, 0.5)[..., None]
    return paint(image, _contrast(rng, image) + lit, cover)


def _seam(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    """A joint or crease, straight or bent, often stitched."""
    line = v - rng.uniform(-0.5, 0.5) - rng.uniform(0, 0.15) * np.sin(rng.uniform(1, 4) * u)
    image = (
        image - rng.uniform(-30, 60) * np.exp(-((line / rng.uniform(0.015, 0.05)) ** 2))[..., None]
    )
    if rng.random() < 0.4:
        stitch = np.maximum(np.abs(np.abs(line) - 0.07) - 0.012, 0.25 - np.abs((12 * u) % 1 - 0.5))
        image = paint(image, _contrast(rng, image), inside(stitch))
    return image


PRINTS: tuple[Part, ...] = (
    _text,
    _text,
    _circle,
    _logo,
    _logo,
    _band,
    _half,
    _ticks,
    _bars,
    _sticker,
)
FEATURES: tuple[Part, ...] = (_bolts, _ribs, _steps, _steps, _bore, _folds, _pins, _seam)
