"""Defects: each takes a good product and returns its image and the defect's mask."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .canvas import Field, Product, Region, Rng, blob, paint, random_point, smooth_noise, vivid

Damaged = tuple[Field, Region]


def scratch(rng: Rng, product: Product) -> Damaged:
    """One or two curved grooves, bright or dark, with a lit edge."""
    image, mask = product.image, np.zeros(product.body.shape, bool)
    size = len(mask)
    for _ in range(int(rng.integers(1, 3))):
        start = np.array(random_point(rng, product.body))
        length, heading = rng.uniform(0.12, 0.4) * size, rng.uniform(0, 2 * np.pi)
        along = np.linspace(0, length, 300)
        bend = heading + rng.uniform(-1.2, 1.2) * along / length
        step = length / len(along)
        path = start + step * np.cumsum(np.stack([np.sin(bend), np.cos(bend)], 1), 0)
        distance = _distance(path, size)
        width = rng.uniform(0.006, 0.013) * size
        groove = np.exp(-((distance / width) ** 2)) * product.body
        image = image + _sign(rng, image, groove) * rng.uniform(65, 120) * groove[..., None]
        mask |= (distance < 1.4 * width) & product.body
    return image, mask


def crack(rng: Rng, product: Product) -> Damaged:
    """A jagged dark line with branches."""
    size = len(product.body)
    paths, starts = [], [np.array(random_point(rng, product.body))]
    heading = rng.uniform(0, 2 * np.pi)
    for branch in range(int(rng.integers(2, 4))):
        steps = int(rng.uniform(0.2, 0.4) * size / (1 + 0.7 * (branch > 0)))
        turns = heading + (branch > 0) * rng.uniform(-1, 1) + np.cumsum(rng.normal(0, 0.28, steps))
        path = starts[-1] + np.cumsum(np.stack([np.sin(turns), np.cos(turns)], 1), 0)
        paths.append(path)
        starts.append(path[rng.integers(len(path))])
    distance = _distance(np.concatenate(paths), size)
    width = rng.uniform(0.006, 0.011) * size
    gap = np.clip(1.5 - distance / width, 0, 1) * product.body
    image = paint(product.image, product.image * 0.2, gap)
    return image, (distance < 1.5 * width) & product.body


def hole(rng: Rng, product: Product) -> Damaged:
    """A dark pit with a lit rim."""
    depth = _spot(rng, product, (0.035, 0.08))
    bottom = np.clip(depth * 5, 0, 1) * product.body
    rim = np.exp(-((depth / 0.14) ** 2)) * (1 - bottom) * product.body
    image = paint(product.image, rng.uniform(8, 40) + np.zeros(3), bottom)
    return image + rng.uniform(15, 45) * rim[..., None], (depth > -0.1) & product.body


def stain(rng: Rng, product: Product) -> Damaged:
    """Dirt, oil or spilt paint: translucent or opaque, with splashes beside it."""
    depth = _spot(rng, product, (0.05, 0.13))
    for _ in range(int(rng.integers(0, 4))):
        depth = np.maximum(depth, _spot(rng, product, (0.015, 0.04)))
    strength = rng.uniform(0.65, 1.0)
    shape = np.clip(depth * rng.uniform(3, 8), 0, 1) * product.body
    brown = np.array([70.0, 52, 36]) * rng.uniform(0.4, 1.3)
    under = product.image[shape > 0.5].mean(0) if (shape > 0.5).any() else np.zeros(3)
    # Of a few liquids the one that shows best: nobody would label a stain that can't be seen.
    liquids = [brown, vivid(rng), vivid(rng)]
    dirt = max(liquids[: rng.integers(2, 4)], key=lambda liquid: np.abs(liquid - under).sum())
    mottle = 1 + 0.12 * smooth_noise(rng, len(depth), 2.0)[..., None]
    return paint(product.image, dirt * mottle, strength * shape), (depth > 0.05) & product.body


def missing_part(rng: Rng, product: Product) -> Damaged:
    """A piece is broken out, of the edge if there is one; the ground shows."""
    edge = product.body & ~ndimage.binary_erosion(product.body, iterations=2, border_value=1)
    size = len(edge)
    at = random_point(rng, edge if edge.any() else product.body)
    depth = blob(rng, size, at, rng.uniform(0.07, 0.14) * size)
    gone = np.clip(depth * 8, 0, 1) * product.body
    break_ = np.exp(-((depth / 0.1) ** 2)) * product.body * (1 - gone)
    image = paint(product.image, product.background, gone) - 25 * break_[..., None]
    return image, (depth > 0) & product.body


def misprint(rng: Rng, product: Product) -> Damaged:
    """Print smeared or doubled: the picture shifted over itself, with a cast of ink."""
    printed = np.abs(ndimage.gaussian_laplace(product.image.mean(-1), 2)) > 8
    printed &= ndimage.binary_erosion(product.body, iterations=len(printed) // 30)
    at = random_point(rng, printed if printed.any() else product.body)
    depth = blob(rng, len(printed), at, rng.uniform(0.1, 0.18) * len(printed))
    shift = rng.uniform(0.02, 0.05, 2) * rng.choice([-1, 1], 2) * len(depth)
    ghost = ndimage.shift(product.image, (*shift, 0), order=1, mode="nearest")
    if rng.random() < 0.5:
        ghost = ndimage.gaussian_filter(ghost, (*np.abs(shift), 0))
    shape = np.clip(depth * 4, 0, 1) * product.body
    doubled = np.minimum(product.image, ghost) * (1 - 0.15 * vivid(rng) / 255)
    image = paint(product.image, doubled, shape)
    changed = np.abs(image - product.image).max(-1) > 12
    return image, ndimage.binary_closing(changed, iterations=len(changed) // 50)


def deformation(rng: Rng, product: Product) -> Damaged:
    """A dent or bulge: the surface is pinched, and shaded by its slope."""
    size = len(product.body)
    row, column = random_point(rng, product.body)
    y, x = np.mgrid[0:size, 0:size].astype(float)
    reach = rng.uniform(0.08, 0.14) * size
    dy, dx = (y - row) / reach, (x - column) / reach
    swell = np.exp(-(dy**2 + dx**2))
    pull = rng.choice([-0.9, 0.75]) * reach * swell
    twist = rng.uniform(-0.5, 0.5) * reach * swell
    at = [y + pull * dy + twist * dx, x + pull * dx - twist * dy]
    image = np.stack(
        [
            ndimage.map_coordinates(product.image[..., c], at, order=1, mode="nearest")
            for c in range(3)
        ],
        axis=-1,
    )
    angle = rng.uniform(0, 2 * np.pi)
    slope = (np.sin(angle) * dy + np.cos(angle) * dx) * swell
    shade = rng.uniform(120, 200) * slope * ndimage.gaussian_filter(product.body.astype(float), 2)
    near = ndimage.binary_dilation(product.body, iterations=max(1, size // 60))
    return image + shade[..., None], (swell > 0.3) & near


def _sign(rng: Rng, image: Field, where: Field) -> float:
    """Brighter or darker: whichever there is room for."""
    level = float((image.mean(-1) * where).sum() / max(where.sum(), 1e-6))
    return 1.0 if level < 75 or (level < 180 and rng.random() < 0.5) else -1.0


def _distance(path: Field, size: int) -> Field:
    """Distance of every pixel to a path of (row, column) points, in pixels."""
    line = np.ones((size, size), bool)
    points = path[((path >= 0) & (path < size)).all(1)].astype(int)
    line[tuple(points.T)] = False
    return (
        np.asarray(ndimage.distance_transform_edt(line))
        if len(points)
        else np.full(line.shape, size)
    )


def _spot(rng: Rng, product: Product, radius: tuple[float, float]) -> Field:
    size = len(product.body)
    return blob(rng, size, random_point(rng, product.body), rng.uniform(*radius) * size)
