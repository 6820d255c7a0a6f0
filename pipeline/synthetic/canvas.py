"""What products and defects are drawn with: noise, poses, soft-edged shapes, colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Rng = np.random.Generator
Field = NDArray[np.float64]
"""[size, size], or [size, size, 3] for colours from 0 to 255."""
Region = NDArray[np.bool_]


@dataclass(frozen=True)
class Product:
    """A good product in front of what it lies on."""

    image: Field
    """[size, size, 3] colours."""
    body: Region
    """[size, size], true on the product."""
    background: Field
    """[size, size, 3], what shows where a part is missing."""


@dataclass(frozen=True)
class Placing:
    """How a part lies under the camera, off the place that its design has."""

    turn: float = 0.0
    """From −1 to 1: a share of the largest turn."""
    largest: float = 0.0
    """Radians; products that are never turned so far are turned less."""
    down: float = 0.0
    """Share of half the image, as ``across``."""
    across: float = 0.0
    scale: float = 1.0

    def moved(self, y: Field, x: Field, turn: float) -> tuple[Field, Field]:
        """The coordinates as the part sees them; the product turns by up to ``turn`` radians."""
        angle = self.turn * min(self.largest, turn)
        y, x = (y - self.down) / self.scale, (x - self.across) / self.scale
        return np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x


class PartRng(np.random.Generator):
    """Draws a part of a production line: its own numbers make the design, the same for each part.

    Args:
        design: what all parts share.
        part: what no two share: the grain.
        placing: how this one lies.
        zoom: of the line's camera; 1 shows products as large as their design.
        station: what the line's place looks like, whatever lies there; ``design`` if None.
    """

    def __init__(
        self,
        design: Rng,
        part: Rng,
        placing: Placing,
        zoom: float,
        station: PartRng | None = None,
    ) -> None:
        super().__init__(design.bit_generator)
        self.part, self.placing, self.zoom, self.station = part, placing, zoom, station or self
        self.grid: tuple[Field, Field] | None = None
        """Where in the picture of a part at rest each pixel lies, once it's drawn; None if there.

        Rows and columns from −1 to 1.
        """


def of_the_part(rng: Rng) -> Rng:
    """Where the numbers come from that differ from part to part on a production line."""
    return rng.part if isinstance(rng, PartRng) else rng


def of_the_station(rng: Rng) -> Rng:
    """Where those come from that are the same for all products of a line: ground and shadow."""
    return rng.station if isinstance(rng, PartRng) else rng


def smooth_noise(rng: Rng, size: int, sigma: float | tuple[float, float]) -> Field:
    """[size, size] noise of zero mean and unit variance, smooth over ``sigma`` pixels."""
    white = of_the_part(rng).standard_normal((size, size))
    noise = ndimage.gaussian_filter(white, sigma, mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std())


def pixel_grid(size: int) -> tuple[Field, Field]:
    """Rows and columns, from −1 to 1."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    return y, x


def placed_grid(rng: Rng, size: int, turn: float) -> tuple[Field, Field]:
    """``pixel_grid``; on a production line as the part lies, turned by up to ``turn`` radians."""
    y, x = pixel_grid(size)
    if isinstance(rng, PartRng):
        rng.grid = y, x = rng.placing.moved(y, x, turn)
        y, x = y / rng.zoom, x / rng.zoom
    return y, x


def pose(
    rng: Rng, size: int, *, turn: float = np.pi, scale: tuple[float, float]
) -> tuple[Field, Field]:
    """Coordinates (v, u) of an object: it fills −1..1 in each, turned, moved and scaled at random.

    Args:
        turn: largest rotation in radians, either way.
        scale: half the object's extent, as a share of half the image.
    """
    y, x = placed_grid(rng, size, turn)
    angle, extent = rng.uniform(-turn, turn), rng.uniform(*scale)
    room = max(0.0, 0.94 - extent)
    y, x = y - rng.uniform(-room, room), x - rng.uniform(-room, room)
    return (
        (np.cos(angle) * y - np.sin(angle) * x) / extent,
        (np.sin(angle) * y + np.cos(angle) * x) / extent,
    )


def inside(distance: Field, softness: float = 0.02) -> Field:
    """Coverage from 0 to 1 of a shape given by its signed distance, negative inside."""
    return np.clip(0.5 - distance / softness, 0, 1)


def box(v: Field, u: Field, half_height: float, half_width: float, radius: float = 0.0) -> Field:
    """Signed distance to a rectangle around the origin with rounded corners."""
    dy, dx = np.abs(v) - half_height + radius, np.abs(u) - half_width + radius
    outside = np.hypot(np.maximum(dy, 0), np.maximum(dx, 0))
    return outside + np.minimum(np.maximum(dy, dx), 0) - radius


def paint(image: Field, colour: Field | Field, coverage: Field) -> Field:
    """``colour`` over ``image`` where ``coverage`` [size, size] is 1."""
    alpha = coverage[..., None]
    return image * (1 - alpha) + np.asarray(colour) * alpha


def colour(rng: Rng, *base: tuple[float, float, float], spread: float = 14.0) -> Field:
    """One of the colours, lighter or darker and a little off in hue."""
    chosen = np.asarray(base[rng.integers(len(base))])
    return chosen + rng.normal(0, spread) + rng.normal(0, spread / 3, 3)


def vivid(rng: Rng) -> Field:
    """A saturated colour, as of paint or ink."""
    channels = np.array([rng.uniform(0, 60), rng.uniform(0, 160), rng.uniform(150, 250)])
    return rng.permutation(channels) * rng.uniform(0.35, 1.0)


def surface(rng: Rng, size: int) -> Field:
    """What objects lie on: a plain, slightly uneven ground of any colour."""
    ground = rng.uniform(20, 235) + rng.normal(0, 12, 3)
    if rng.random() < 0.3:  # coloured board or cloth
        ground = vivid(rng) * rng.uniform(0.4, 0.9) + rng.uniform(10, 60)
    fine, coarse = rng.uniform(0.5, 4), rng.uniform(1, 6)
    uneven = fine * smooth_noise(rng, size, 1.0) + coarse * smooth_noise(rng, size, size / 6)
    return np.asarray(np.clip(ground, 5, 250) + uneven[..., None])


def place(rng: Rng, image: Field, coverage: Field) -> Product:
    """An object on a ground, with its shadow."""
    size, rng = len(image), of_the_station(rng)
    background = surface(rng, size)
    shift = rng.uniform(-0.02, 0.02, 2) * size
    shadow = ndimage.shift(ndimage.gaussian_filter(coverage, size / 50), shift, order=1)
    background = background * (1 - rng.uniform(0.2, 0.5) * shadow[..., None])
    return Product(paint(background, image, coverage), coverage > 0.5, background)


def fill(rng: Rng, image: Field) -> Product:
    """A material that fills the picture; a dark ground shows where some of it is missing."""
    size = len(image)
    ground = rng.uniform(15, 60) + 6 * smooth_noise(rng, size, 3.0)[..., None] + np.zeros(3)
    return Product(image, np.ones((size, size), dtype=bool), ground)


def blob(rng: Rng, size: int, centre: tuple[float, float], radius: float) -> Field:
    """Depth of an irregular spot: above 0 inside, 1 at its centre. In pixels."""
    y, x = np.mgrid[0:size, 0:size]
    dy, dx = y - centre[0], x - centre[1]
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.8)
    long = (np.cos(angle) * dx + np.sin(angle) * dy) / stretch
    wide = (np.cos(angle) * dy - np.sin(angle) * dx) * stretch**0.5
    depth = 1 - np.hypot(long, wide) / radius
    return np.asarray(depth + 0.25 * smooth_noise(rng, size, max(1.0, radius / 2.5)))


def random_point(rng: Rng, region: Region) -> tuple[float, float]:
    """A pixel (row, column) of the region."""
    rows, columns = np.nonzero(region)
    chosen = rng.integers(len(rows))
    return float(rows[chosen]), float(columns[chosen])


def around(v: Field, u: Field, count: int, radius: float) -> Field:
    """Distance to the nearest of ``count`` points on a circle."""
    turns = 2 * np.pi * np.arange(count) / count
    distances = [np.hypot(v - radius * np.sin(t), u - radius * np.cos(t)) for t in turns]
    return np.asarray(np.min(distances, axis=0))


def letters(
    rng: Rng, v: Field, u: Field, *, rows: int, half_width: float, half_height: float
) -> Field:
    """Coverage of lines of made-up letters, each a random pattern of 5 × 3 cells."""
    columns = int(rows * 1.6 * half_width / half_height)
    cells = np.zeros((rows * 7, columns * 4), dtype=bool)
    for row in range(rows):
        for column in range(columns):
            if rng.random() < 0.88:
                glyph = rng.random((5, 3)) < 0.62
                cells[7 * row + 1 : 7 * row + 6, 4 * column : 4 * column + 3] = glyph
    y = (v + half_height) / (2 * half_height) * cells.shape[0] - 0.5
    x = (u + half_width) / (2 * half_width) * cells.shape[1] - 0.5
    return ndimage.map_coordinates(cells.astype(float), [y, x], order=1, mode="constant")
