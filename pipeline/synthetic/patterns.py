"""Surfaces of invented products: regular, grained and random patterns of any scale and colour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from .canvas import Field, Rng, colour, of_the_part, paint, smooth_noise, vivid

Pattern = Callable[[Rng, Field, Field], Field]


def coarse_noise(rng: Rng, size: int, sigma: float | tuple[float, float]) -> Field:
    """Like ``smooth_noise`` but many times faster where it is smooth over more than 3 pixels."""
    spread = np.broadcast_to(sigma, 2)
    if spread.min() <= 3:
        return smooth_noise(rng, size, (float(spread[0]), float(spread[1])))
    rows, columns = (max(3, int(size / s)) for s in spread)
    few = of_the_part(rng).standard_normal((rows, columns)).astype(np.float32)
    noise = np.asarray(Image.fromarray(few).resize((size, size), Image.Resampling.BICUBIC), float)
    return np.asarray((noise - noise.mean()) / max(noise.std(), 1e-6))


def _wave(rng: Rng, phase: Field) -> Field:
    """A sine, a square with soft edges, or a saw; period 1."""
    kind, sine = rng.integers(3), np.sin(2 * np.pi * phase)
    if kind == 0:
        return np.asarray(sine)
    return np.asarray(np.tanh(4 * sine) if kind == 1 else 2 * (phase % 1) - 1)


def _plain(rng: Rng, v: Field, u: Field) -> Field:
    return np.zeros_like(v)


def _brushed(rng: Rng, v: Field, u: Field) -> Field:
    size = len(v)
    grain = smooth_noise(rng, size, (rng.uniform(0.4, 1.2), size / rng.uniform(8, 40)))
    return 0.5 * (grain.T if rng.random() < 0.5 else grain)


def _grained(rng: Rng, v: Field, u: Field) -> Field:
    return np.asarray(np.abs(coarse_noise(rng, len(v), len(v) / rng.uniform(30, 130))) ** 0.6 - 0.7)


def _speckled(rng: Rng, v: Field, u: Field) -> Field:
    spots = coarse_noise(rng, len(v), len(v) / rng.uniform(40, 160))
    return np.asarray(np.clip(3 * (spots - rng.uniform(0.8, 2.0)), 0, 1) * rng.choice([-1, 1]))


def _mottled(rng: Rng, v: Field, u: Field) -> Field:
    spots = coarse_noise(rng, len(v), len(v) / rng.uniform(12, 60))
    return np.asarray(np.round(rng.uniform(0.7, 1.5) * spots) / 2)


def _cloudy(rng: Rng, v: Field, u: Field) -> Field:
    size = len(v)
    scales = (size / 5, size / 14, size / 40, 1.2)
    return sum((0.4 * coarse_noise(rng, size, s) for s in scales), np.zeros_like(v))


def _striped(rng: Rng, v: Field, u: Field) -> Field:
    return _wave(rng, rng.uniform(2, 24) * v)


def _wavy(rng: Rng, v: Field, u: Field) -> Field:
    bend = rng.uniform(0.05, 0.6) * np.sin(rng.uniform(2, 12) * u)
    return _wave(rng, rng.uniform(3, 14) * v + bend)


def _marbled(rng: Rng, v: Field, u: Field) -> Field:
    size = len(v)
    bend = coarse_noise(rng, size, (size / rng.uniform(8, 25), size / rng.uniform(4, 12)))
    return _wave(rng, rng.uniform(1, 6) * v + rng.uniform(0.2, 0.5) * bend)


def _checked(rng: Rng, v: Field, u: Field) -> Field:
    count, ratio = rng.uniform(2, 12), rng.uniform(0.6, 1.6)
    rows, columns = _wave(rng, count * v), _wave(rng, count * ratio * u)
    return rows * columns if rng.random() < 0.5 else 0.5 * (rows + columns)


def _twilled(rng: Rng, v: Field, u: Field) -> Field:
    count, step = rng.uniform(8, 26), rng.choice([1, -1]) * rng.choice([1, 2])
    return np.asarray(np.abs(np.sin(np.pi * count * (v + step * u))) - 0.6) * (
        1 + 0.3 * np.sin(2 * np.pi * count * u)
    )


def _knitted(rng: Rng, v: Field, u: Field) -> Field:
    count = rng.uniform(5, 14)
    column = np.abs((count * u) % 1 - 0.5)
    return np.asarray(
        np.sin(2 * np.pi * (count * rng.uniform(0.7, 1.4) * v + 2 * column))
        * np.sin(np.pi * np.clip(2 * column, 0, 1)) ** 0.5
    )


def _netted(rng: Rng, v: Field, u: Field) -> Field:
    count, width = rng.uniform(3, 12), rng.uniform(0.05, 0.2)
    near = np.minimum(np.abs((count * v) % 1 - 0.5), np.abs((count * u) % 1 - 0.5))
    wire = 2 * np.clip((width - near) / 0.06, 0, 1) - 0.5
    return np.asarray(wire * rng.choice([-1, 1]))


def _dotted(rng: Rng, v: Field, u: Field) -> Field:
    count, reach = rng.uniform(3, 12), rng.uniform(0.15, 0.38)
    row = np.floor(count * v)
    shift = 0.5 * (row % 2) if rng.random() < 0.5 else 0.0
    dv, du = (count * v) % 1 - 0.5, (count * u + shift) % 1 - 0.5
    dot = np.clip((reach - np.hypot(dv, du)) / 0.1, 0, 1)
    relief = 5 * dot * (1 - dot) * (dv - du) / reach
    return np.asarray(dot * rng.choice([-1, 0.3, 1]) + rng.uniform(0, 1) * relief)


def _honeycombed(rng: Rng, v: Field, u: Field) -> Field:
    count = rng.uniform(8, 32)
    turns = [np.cos(count * (u * np.cos(t) + v * np.sin(t))) for t in (0, 2.0944, 4.1888)]
    return np.asarray(np.tanh(rng.uniform(1, 4) * (sum(turns) / 1.5 + 0.2)))


def _bricked(rng: Rng, v: Field, u: Field) -> Field:
    count, joint = rng.uniform(2, 8), rng.uniform(0.03, 0.1)
    row = np.floor(count * v)
    along = (count * u / rng.uniform(1, 2.5) + 0.5 * (row % 2)) % 1
    gap = np.minimum(np.minimum(along, 1 - along), np.minimum(count * v % 1, 1 - count * v % 1))
    tones = rng.normal(0, 0.25, 4096)[(row * 31 + np.floor(count * u)).astype(int) % 4096]
    return np.asarray(np.where(gap < joint, -1.0, 0.0) + tones * rng.integers(2))


def _ringed(rng: Rng, v: Field, u: Field) -> Field:
    return _wave(rng, rng.uniform(2, 14) * np.hypot(v, u))


def _rayed(rng: Rng, v: Field, u: Field) -> Field:
    rays = _wave(rng, int(rng.integers(4, 48)) * np.arctan2(v, u) / (2 * np.pi))
    return np.asarray(rays * np.clip(2 * np.hypot(v, u), 0, 1))


PATTERNS: dict[str, Pattern] = {
    "plain": _plain,
    "brushed": _brushed,
    "grained": _grained,
    "speckled": _speckled,
    "mottled": _mottled,
    "cloudy": _cloudy,
    "striped": _striped,
    "wavy": _wavy,
    "marbled": _marbled,
    "checked": _checked,
    "twilled": _twilled,
    "knitted": _knitted,
    "netted": _netted,
    "dotted": _dotted,
    "honeycombed": _honeycombed,
    "bricked": _bricked,
    "ringed": _ringed,
    "rayed": _rayed,
}


def any_colour(rng: Rng) -> Field:
    """Grey, earthy, pastel or saturated."""
    kind = rng.integers(4)
    if kind == 0:
        return rng.uniform(25, 235) + rng.normal(0, 6, 3)
    if kind == 1:
        earths = ((176, 128, 82), (96, 58, 38), (205, 170, 120), (150, 140, 120), (196, 150, 60))
        return colour(rng, *earths, spread=18)
    return rng.uniform(120, 245, 3) if kind == 2 else vivid(rng)


def covered(rng: Rng, pattern: str, v: Field, u: Field) -> Field:
    """[size, size, 3]: a random colour with the pattern on it, some unevenness and fine grain."""
    size, angle = len(v), rng.choice([0, 0.5, 0.25, rng.uniform(0, 2)]) * np.pi
    y, x = np.cos(angle) * v - np.sin(angle) * u, np.sin(angle) * v + np.cos(angle) * u
    if pattern in ("ringed", "rayed"):
        y, x = v, u
    relief = PATTERNS[pattern](rng, y, x)
    first = any_colour(rng)
    if rng.random() < 0.35:  # of two colours, not always strangers
        second = first + rng.uniform(0.2, 0.8) * (any_colour(rng) - first)
        image = paint(
            np.broadcast_to(first, (size, size, 3)), second, np.clip(relief, -1, 1) / 2 + 0.5
        )
    else:
        tint = rng.uniform(0.75, 1.0, 3)
        image = first + rng.uniform(5, 32) * relief[..., None] * tint
    if rng.random() < 0.5:
        image = (
            image
            + rng.uniform(2, 9) * coarse_noise(rng, size, size / rng.uniform(5, 20))[..., None]
        )
    return image + rng.uniform(0.5, 7) * smooth_noise(rng, size, rng.uniform(0.6, 1.6))[..., None]
