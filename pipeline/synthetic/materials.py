"""Materials that fill the picture: metal, wood, cloth, leather, stone, rubber, mesh, cork."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .canvas import Field, Product, Rng, colour, fill, pixel_grid, placed_grid, smooth_noise


def metal_plate(rng: Rng, size: int) -> Product:
    """Brushed metal; the grain runs one way."""
    grain = 9 * smooth_noise(rng, size, (0.6, size / 12)) + 3 * smooth_noise(rng, size, (0.4, 4))
    tone = colour(rng, (168, 172, 178), (196, 186, 160), (120, 124, 130))
    return fill(rng, _turned(rng, tone + grain[..., None] * np.ones(3)))


def wooden_board(rng: Rng, size: int) -> Product:
    """Wavy year rings with fine grain."""
    y, _ = pixel_grid(size)
    wave = 0.35 * smooth_noise(rng, size, (size / 22, size / 5))
    rings = np.sin(2 * np.pi * (rng.uniform(2.5, 5.5) * y + wave))
    grain = 14 * rings + 6 * smooth_noise(rng, size, (0.7, size / 18))
    tone = colour(rng, (176, 128, 82), (205, 170, 120), (120, 82, 54))
    return fill(rng, _turned(rng, tone + grain[..., None] * np.array([1, 0.85, 0.6])))


def woven_fabric(rng: Rng, size: int) -> Product:
    """Threads over and under each other."""
    y, x = _turned_grid(rng, size)
    threads = np.pi * rng.uniform(13, 19)
    over = np.sin(threads * x) * np.sin(threads * y) > 0
    thread = np.where(over, np.abs(np.sin(threads * x)), np.abs(np.sin(threads * y)))
    uneven = 5 * smooth_noise(rng, size, 1.5) + 6 * smooth_noise(rng, size, size / 8)
    weave = (38 * thread + uneven)[..., None]
    tone = colour(rng, (72, 88, 118), (150, 140, 120), (110, 60, 62))
    return fill(rng, ndimage.gaussian_filter(tone + weave, (0.5, 0.5, 0)))


def leather(rng: Rng, size: int) -> Product:
    """Grained skin: cells with dark folds between them."""
    cells = np.abs(smooth_noise(rng, size, size / 110)) ** 0.6
    relief = 22 * cells + 5 * smooth_noise(rng, size, size / 9)
    tone = colour(rng, (96, 58, 38), (60, 54, 52), (150, 96, 62), (90, 30, 34))
    return fill(rng, tone + relief[..., None] * np.array([1, 0.9, 0.8]))


def terrazzo(rng: Rng, size: int) -> Product:
    """Stone chips in cement."""
    image = colour(rng, (205, 200, 190), (150, 150, 155)) + np.zeros((size, size, 3))
    for level in np.linspace(1.5, 2.3, 4):
        chips = smooth_noise(rng, size, size / rng.uniform(55, 90)) > level
        image[chips] = colour(rng, (120, 90, 75), (90, 95, 100), (235, 230, 220), spread=20)
    image = ndimage.gaussian_filter(image, (0.6, 0.6, 0))
    return fill(rng, image + 3 * smooth_noise(rng, size, 0.8)[..., None])


def rubber_mat(rng: Rng, size: int) -> Product:
    """Round studs in rows, lit from one side."""
    y, x = _turned_grid(rng, size)
    pitch = rng.uniform(7, 11)
    dv, du = (pitch * y) % 1 - 0.5, (pitch * x) % 1 - 0.5
    stud = np.clip((0.34 - np.hypot(dv, du)) / 0.1, 0, 1)
    relief = 16 * stud + 120 * np.clip(stud * (1 - stud), 0, 1) * (dv - du)
    tone = colour(rng, (58, 60, 64), (40, 70, 96), (120, 50, 40))
    return fill(rng, tone + (relief + 3 * smooth_noise(rng, size, 0.8))[..., None])


def wire_mesh(rng: Rng, size: int) -> Product:
    """Wires crossing over a dark ground."""
    y, x = _turned_grid(rng, size)
    count, width = rng.uniform(8, 12), rng.uniform(0.16, 0.24)
    across = np.abs((count * y) % 1 - 0.5)
    along = np.abs((count * x) % 1 - 0.5)
    product = fill(rng, np.zeros((size, size, 3)))
    tone = colour(rng, (176, 178, 180), (190, 160, 90))
    image = product.background.copy()
    for distance in (across, along):
        wire = np.clip((width - distance) / 0.06, 0, 1)[..., None]
        shade = 0.55 + 0.45 * np.cos(np.pi * np.clip(distance / width, 0, 1) / 2)
        image = image * (1 - wire) + wire * tone * shade[..., None]
    image = ndimage.gaussian_filter(image, (0.5, 0.5, 0))
    return Product(image, product.body, product.background)


def cork(rng: Rng, size: int) -> Product:
    """Pressed granules of several browns."""
    granules = smooth_noise(rng, size, size / 90) + 0.5 * smooth_noise(rng, size, size / 40)
    tone = colour(rng, (186, 146, 102), (160, 118, 80))
    speckles = (smooth_noise(rng, size, 1.2) > 2.0)[..., None] * -45.0
    return fill(rng, tone + 13 * granules[..., None] * np.array([1, 0.95, 0.8]) + speckles)


def _turned_grid(rng: Rng, size: int) -> tuple[Field, Field]:
    y, x = placed_grid(rng, size, 0.3)
    angle = rng.uniform(-0.3, 0.3) + rng.integers(2) * np.pi / 4
    return np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x


def _turned(rng: Rng, image: Field) -> Field:
    """Half of the pieces lie across."""
    return image.swapaxes(0, 1) if rng.random() < 0.5 else image
