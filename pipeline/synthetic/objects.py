"""Single products on a ground: turned parts, castings, capsules, boards, labels, food."""

from __future__ import annotations

import numpy as np

from .canvas import (
    Field,
    Product,
    Rng,
    around,
    box,
    colour,
    inside,
    letters,
    paint,
    place,
    pose,
    smooth_noise,
    vivid,
)


def washer(rng: Rng, size: int) -> Product:
    """A flat metal ring."""
    v, u = pose(rng, size, scale=(0.55, 0.85))
    radius = np.hypot(v, u)
    bore = rng.uniform(0.35, 0.6)
    shape = inside(np.maximum(radius - 1, bore - radius))
    turned = 5 * np.sin(radius * 60) + 4 * smooth_noise(rng, size, 0.8)
    image = _metal(rng) + (turned + _chamfer(radius, 1.0) - _chamfer(radius, bore))[..., None]
    return place(rng, image, shape)


def gear(rng: Rng, size: int) -> Product:
    """A toothed wheel with a bore and a raised hub."""
    v, u = pose(rng, size, scale=(0.6, 0.88))
    radius, angle = np.hypot(v, u), np.arctan2(v, u)
    teeth = int(rng.integers(12, 25))
    rim = 0.9 + 0.09 * np.tanh(4 * np.sin(teeth * angle))
    shape = inside(np.maximum(radius - rim, rng.uniform(0.15, 0.25) - radius))
    relief = 22 * inside(radius - 0.4) - 18 * inside(np.abs(radius - 0.62) - 0.12)
    image = _metal(rng) + (relief + 5 * smooth_noise(rng, size, 1.0))[..., None]
    return place(rng, image, shape)


def bottle_cap(rng: Rng, size: int) -> Product:
    """A crown cap with a ring and a printed star."""
    v, u = pose(rng, size, scale=(0.55, 0.88))
    radius, angle = np.hypot(v, u), np.arctan2(v, u)
    crimp = 0.95 + 0.04 * np.sin(21 * angle)
    enamel, print_ = vivid(rng), colour(rng, (240, 240, 235), (230, 200, 90))
    image = enamel + (12 * smooth_noise(rng, size, size / 7))[..., None]
    image = paint(image, print_, inside(np.abs(radius - 0.7) - 0.03))
    points = int(rng.integers(4, 8))
    image = paint(image, print_, inside(radius - 0.36 - 0.12 * np.cos(points * angle)))
    folds = 35 * np.sin(21 * angle) * np.clip((radius - 0.78) / 0.2, 0, 1)
    return place(rng, image + folds[..., None], inside(radius - crimp))


def metal_casting(rng: Rng, size: int) -> Product:
    """A rough cast flange with a bore, ribs and bolt holes."""
    v, u = pose(rng, size, scale=(0.6, 0.88))
    radius, angle = np.hypot(v, u), np.arctan2(v, u)
    arms = int(rng.integers(3, 6))
    rim = 0.82 + 0.14 * np.cos(arms * angle)
    bolts = around(v, u, arms, 0.76)
    shape = inside(np.max([radius - rim, 0.26 - radius, 0.09 - bolts], axis=0))
    ribs = inside(np.abs(np.sin(arms * (angle + np.pi / arms) / 2)) * radius - 0.05, 0.06)
    relief = 20 * inside(radius - 0.4, 0.08) + 14 * ribs + 16 * inside(bolts - 0.17, 0.06)
    rough = 9 * smooth_noise(rng, size, 1.1) + 6 * smooth_noise(rng, size, 3)
    tone = colour(rng, (120, 122, 124), (96, 92, 90), (150, 140, 128))
    return place(rng, tone + (relief + rough)[..., None], shape)


def capsule(rng: Rng, size: int) -> Product:
    """A two-coloured gelatine capsule, glossy, with a line of print."""
    v, u = pose(rng, size, scale=(0.62, 0.92))
    height = rng.uniform(0.34, 0.44)
    distance = box(v, u, height, 1.0, radius=height)
    image = paint(
        colour(rng, (232, 226, 214), (240, 205, 90)) + np.zeros((size, size, 3)),
        vivid(rng),
        inside(u - rng.uniform(-0.1, 0.15)),
    )
    roundness = np.sqrt(np.clip(1 - (v / height) ** 2, 0, 1))
    gloss = np.exp(-(((v + 0.45 * height) / 0.05) ** 2)) * inside(np.abs(u) - 0.8, 0.2)
    image = image * (0.5 + 0.5 * roundness[..., None]) + 80 * gloss[..., None]
    print_ = letters(rng, v, u, rows=1, half_width=0.62, half_height=0.07)
    return place(rng, paint(image, colour(rng, (50, 45, 60)), 0.8 * print_), inside(distance))


def bean(rng: Rng, size: int) -> Product:
    """A roasted or dried bean: round, shaded, with a crease."""
    v, u = pose(rng, size, scale=(0.45, 0.85))
    lumpy = 0.05 * smooth_noise(rng, size, size / 8)
    height = rng.uniform(0.6, 0.95)
    radius = np.hypot(v / height, u) + lumpy
    ball = np.sqrt(np.clip(1 - radius**2, 0, 1))
    tone = colour(rng, (96, 62, 40), (196, 170, 130), (120, 40, 36), (60, 50, 44))
    streaks = 7 * smooth_noise(rng, size, (1.0, size / 24)) + 8 * smooth_noise(rng, size, size / 16)
    image = (tone + streaks[..., None]) * (0.45 + 0.65 * ball[..., None])
    crease = np.exp(-(((v - 0.12 * np.sin(2.5 * u)) / 0.05) ** 2)) * inside(np.abs(u) - 0.7, 0.3)
    image = image - rng.uniform(0, 45) * crease[..., None]
    return place(rng, image, inside(radius - 0.98, 0.05))


def biscuit(rng: Rng, size: int) -> Product:
    """A baked biscuit with a wavy edge and rows of small dots."""
    v, u = pose(rng, size, scale=(0.6, 0.88))
    waves = int(rng.integers(14, 28))
    radius, angle = np.hypot(v, u), np.arctan2(v, u)
    rim = 0.95 + 0.025 * np.cos(waves * angle)
    baked = 10 * smooth_noise(rng, size, size / 10) + 6 * smooth_noise(rng, size, 1.5)
    image = colour(rng, (214, 168, 104), (190, 138, 80), (120, 78, 52)) + baked[..., None]
    dots = around(v, u, 8, 0.55)
    image = image - 55 * (inside(np.minimum(dots, radius) - 0.05, 0.04))[..., None]
    browned = np.clip((radius - 0.7) / 0.3, 0, 1)[..., None]
    return place(rng, image * (1 - 0.25 * browned), inside(radius - rim, 0.04))


def printed_circuit_board(rng: Rng, size: int) -> Product:
    """Traces, pads, chips with pins and white lettering on solder mask."""
    v, u = pose(rng, size, turn=0.12, scale=(0.86, 0.93))
    mask = colour(rng, (28, 92, 52), (24, 60, 104), (120, 24, 30), spread=8)
    image = mask + (2 * smooth_noise(rng, size, 1.5))[..., None]
    for _ in range(int(rng.integers(9, 14))):
        trace = np.full_like(v, np.inf)
        corner, end = rng.uniform(-0.9, 0.9, 2), rng.uniform(-0.9, 0.9, 2)
        y, x = corner[0], corner[1]
        trace = np.minimum(trace, box(v - y, u - (x + end[1]) / 2, 0.012, abs(end[1] - x) / 2))
        trace = np.minimum(trace, box(v - (y + end[0]) / 2, u - end[1], abs(end[0] - y) / 2, 0.012))
        image = paint(image, mask * 1.35 + 18, inside(trace))
        via = np.hypot(v - end[0], u - end[1])
        image = paint(image, colour(rng, (205, 180, 110), spread=6), inside(via - 0.04))
        image = paint(image, np.full(3, 24.0), inside(via - 0.016))
    for _ in range(int(rng.integers(2, 5))):
        y, x = rng.uniform(-0.65, 0.65, 2)
        image = _chip(rng, image, v - y, u - x)
    print_ = letters(
        rng, v - 0.9 * rng.choice([-1, 1]), u, rows=1, half_width=0.5, half_height=0.04
    )
    image = paint(image, np.full(3, 225.0), print_)
    return place(rng, image, inside(box(v, u, 1.0, 1.0, radius=0.06)))


def printed_label(rng: Rng, size: int) -> Product:
    """A paper label with a coloured band, lines of text and a bar code."""
    v, u = pose(rng, size, turn=0.25, scale=(0.75, 0.92))
    half = rng.uniform(0.6, 0.95)
    image = colour(rng, (240, 238, 230), (235, 220, 180), spread=6) + np.zeros((size, size, 3))
    image = image + (2 * smooth_noise(rng, size, 1.2))[..., None]
    image = paint(image, vivid(rng), inside(v / half + rng.uniform(0.5, 0.7)))
    ink = colour(rng, (30, 30, 35), (30, 40, 90), spread=6)
    text = letters(rng, v + 0.1 * half, u, rows=4, half_width=0.85, half_height=0.3 * half)
    image = paint(image, ink, text)
    bars = np.repeat(rng.random(60) < 0.5, 1)[np.clip((u + 0.6) / 1.2 * 60, 0, 59).astype(int)]
    code = inside(box(v - 0.68 * half, u, 0.18 * half, 0.6)) * bars
    return place(rng, paint(image, ink, code), inside(box(v, u, half, 1.0, radius=0.08)))


def dial_gauge(rng: Rng, size: int) -> Product:
    """A round instrument with ticks, numbers and a needle."""
    v, u = pose(rng, size, turn=0.4, scale=(0.65, 0.9))
    radius, angle = np.hypot(v, u), np.arctan2(v, u)
    image = colour(rng, (236, 236, 230), (30, 32, 36), spread=6) + np.zeros((size, size, 3))
    ink = 240 - image[0, 0] if image[0, 0].mean() < 128 else np.full(3, 28.0)
    count = int(rng.choice([20, 30, 40]))
    tick = np.abs((angle / (2 * np.pi) * count) % 1 - 0.5) * 2 * np.pi * radius / count
    image = paint(image, ink, inside(np.maximum(tick - 0.016, np.abs(radius - 0.74) - 0.08)))
    turn = rng.uniform(-np.pi, np.pi)
    along, across = np.cos(turn) * u + np.sin(turn) * v, np.cos(turn) * v - np.sin(turn) * u
    needle = np.maximum(np.abs(across) - 0.035 * (1 - along), np.abs(along - 0.25) - 0.4)
    image = paint(image, np.array([190.0, 40, 36]), inside(needle))
    image = paint(image, ink, inside(radius - 0.08))
    rim = _metal(rng) + 40 * np.cos(angle - 0.8)[..., None]
    return place(rng, paint(image, rim, inside(0.88 - radius)), inside(radius - 1))


def connector(rng: Rng, size: int) -> Product:
    """A plastic housing with rows of metal pins."""
    v, u = pose(rng, size, turn=0.3, scale=(0.75, 0.92))
    rows, columns = int(rng.integers(2, 4)), int(rng.integers(5, 9))
    half = 1.1 * rows / columns + 0.12
    image = colour(rng, (44, 44, 48), (225, 220, 205), (50, 80, 130), spread=8)
    image = image + (3 * smooth_noise(rng, size, 0.8))[..., None]
    image = paint(image, image * 0.6, inside(box(v, u, half - 0.08, 0.9, radius=0.03)))
    dv = (v / (half - 0.1) * rows / 2 + rows / 2) % 1 - 0.5
    du = (u / 0.88 * columns / 2 + columns / 2) % 1 - 0.5
    field = inside(box(v, u, half - 0.1, 0.88))
    pin = inside(np.maximum(np.abs(dv), np.abs(du)) - 0.2, 0.08) * field
    glint = 1.0 + 0.4 * np.clip(dv - du, -0.3, 0.3)[..., None]
    image = paint(image, colour(rng, (214, 180, 96), (200, 202, 206)) * glint, pin)
    return place(rng, image, inside(box(v, u, half, 1.0, radius=0.05)))


def _metal(rng: Rng) -> Field:
    return colour(rng, (172, 174, 178), (196, 176, 120), (128, 130, 136))


def _chamfer(radius: Field, edge: float) -> Field:
    return 30 * np.exp(-(((radius - edge) / 0.04) ** 2))


def _chip(rng: Rng, image: Field, v: Field, u: Field) -> Field:
    height, width, pins = rng.uniform(0.1, 0.2), rng.uniform(0.12, 0.26), rng.integers(4, 8)
    leg = np.abs((u / width * pins / 2) % 1 - 0.5) - 0.25
    legs = np.maximum(leg * 2 * width / pins, box(v, u, height + 0.05, width))
    image = paint(image, np.full(3, 190.0), inside(legs))
    image = paint(
        image, colour(rng, (38, 38, 42), spread=4), inside(box(v, u, height, width, 0.01))
    )
    image = paint(
        image, np.full(3, 90.0), inside(np.hypot(v + height - 0.05, u + width - 0.05) - 0.02)
    )
    print_ = letters(rng, v, u, rows=1, half_width=0.7 * width, half_height=0.3 * height)
    return paint(image, np.full(3, 150.0), 0.8 * print_)
