"""Outlines of invented products: signed distances, negative inside, within −1..1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Field, Rng, box

Outline = Callable[[Rng, Field, Field], Field]


def _disc(rng: Rng, v: Field, u: Field) -> Field:
    return np.asarray(np.hypot(v, u) - 0.97)


def _oval(rng: Rng, v: Field, u: Field) -> Field:
    return np.asarray(np.hypot(v / rng.uniform(0.45, 0.9), u) - 0.97)


def _ring(rng: Rng, v: Field, u: Field) -> Field:
    radius, bore = np.hypot(v, u), rng.uniform(0.3, 0.75)
    return np.asarray(np.maximum(radius - 0.97, bore - radius))


def _pebble(rng: Rng, v: Field, u: Field) -> Field:
    """A few low waves around the rim: nuts, stones, drops."""
    angle, rim = np.arctan2(v, u), np.full_like(v, 0.85)
    for order in range(1, 6):
        rim += rng.normal(0, 0.07 / order) * np.cos(order * angle + rng.uniform(0, 6.3))
    return np.asarray(np.hypot(v / rng.uniform(0.7, 1), u) - rim)


def _panel(rng: Rng, v: Field, u: Field) -> Field:
    half = rng.uniform(0.45, 1)
    return box(v, u, half, 0.97, radius=rng.uniform(0, 0.45) * half)


def _bar(rng: Rng, v: Field, u: Field) -> Field:
    half = rng.uniform(0.15, 0.42)
    taper = 1 - rng.uniform(0, 0.5) * (u + 1) / 2 * rng.integers(2)
    return box(v / taper, u, half, 0.97, radius=rng.choice([0.1, 0.5, 0.95]) * half)


def _polygon(rng: Rng, v: Field, u: Field) -> Field:
    sides = int(rng.integers(3, 9))
    sector = 2 * np.pi / sides
    angle = np.arctan2(v, u) % sector - sector / 2
    flat = np.hypot(v, u) * np.cos(angle) - 0.95 * np.cos(sector / 2)
    return np.asarray(np.maximum(flat, np.hypot(v, u) - rng.uniform(0.85, 0.97)))


def _star(rng: Rng, v: Field, u: Field) -> Field:
    points, depth = int(rng.integers(5, 11)), rng.uniform(0.05, 0.22)
    wave = np.cos(points * np.arctan2(v, u))
    sharp = wave if rng.random() < 0.5 else 1 - 2 * np.abs(np.arccos(wave) / np.pi)
    return np.asarray(np.hypot(v, u) - (0.96 - depth) - depth * sharp)


def _wheel(rng: Rng, v: Field, u: Field) -> Field:
    teeth, depth = int(rng.integers(8, 48)), rng.uniform(0.015, 0.07)
    wave = np.tanh(rng.uniform(1, 6) * np.sin(teeth * np.arctan2(v, u)))
    return np.asarray(np.hypot(v, u) - (0.96 - depth) - depth * wave)


def _blossom(rng: Rng, v: Field, u: Field) -> Field:
    """Gielis' superformula, scaled to fit."""
    angle, order = np.arctan2(v, u), int(rng.integers(3, 10))
    powers = rng.uniform(1.5, 8, 3)

    def rim(at: Field) -> Field:
        waves = (
            np.abs(np.cos(order * at / 4)) ** powers[1]
            + np.abs(np.sin(order * at / 4)) ** powers[2]
        )
        return np.asarray(waves ** (-1 / powers[0]))

    largest = rim(np.linspace(0, 8 * np.pi, 1440)).max()
    return np.asarray(np.hypot(v, u) - 0.96 * rim(angle % (2 * np.pi)) / largest)


def _cross(rng: Rng, v: Field, u: Field) -> Field:
    arms = rng.uniform(0.18, 0.4, 2)
    return np.minimum(box(v, u, arms[0], 0.95, 0.05), box(v, u, 0.95, arms[1], 0.05))


def _link(rng: Rng, v: Field, u: Field) -> Field:
    """A bar with a head at each end, or at one: keys, levers, bolts, bones."""
    heads = rng.uniform(0.2, 0.45, 2)
    shaft = box(v, u, rng.uniform(0.08, 0.9) * heads.min(), 0.75)
    ends = [np.hypot(v, u - s * (0.95 - h)) - h for s, h in zip((-1, 1), heads, strict=True)]
    if rng.random() < 0.5:
        ends = [np.maximum(e, 0.45 * h - (e + h)) for e, h in zip(ends, heads, strict=True)]
    return np.asarray(np.min([shaft, *ends], axis=0))


def _bracket(rng: Rng, v: Field, u: Field) -> Field:
    """Plates at a right angle, or stacked: brackets, bottles, steps."""
    wide, high = rng.uniform(0.2, 0.5, 2)
    foot = box(v - 0.95 + wide, u, wide, 0.95, 0.06)
    post = box(v, u - rng.choice([-1, 0, 1]) * (0.95 - high), 0.95, high, 0.06)
    return np.minimum(foot, post)


OUTLINES: dict[str, Outline] = {
    "disc": _disc,
    "oval": _oval,
    "ring": _ring,
    "pebble": _pebble,
    "panel": _panel,
    "bar": _bar,
    "polygon": _polygon,
    "star": _star,
    "wheel": _wheel,
    "blossom": _blossom,
    "cross": _cross,
    "link": _link,
    "bracket": _bracket,
}
