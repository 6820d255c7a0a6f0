"""The categories, what can go wrong with them, and how damage and photographs come about."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from . import defects, materials, objects
from .canvas import Field, Product, Rng, pixel_grid

SURFACE_DEFECTS = ("scratch", "crack", "hole", "stain", "deformation")
OBJECT_DEFECTS = (*SURFACE_DEFECTS, "missing part")
PRINTED_DEFECTS = (*OBJECT_DEFECTS, "misprint")

# What a person would notice at a glance; set by looking at some hundred pictures.
VISIBLE_CHANGE = 20  # grey levels of 255 in one channel, after a blur of 1/128 of the picture
MIN_MEAN_CHANGE = 30  # grey levels over the mask
MIN_VISIBLE_AREA = 0.004  # of the picture: 12 × 12 px at 192 px
MIN_VISIBLE_SHARE = 0.5  # of the mask
MAX_DRAWS = 12


@dataclass(frozen=True)
class Category:
    """How one kind of product is drawn, and what can go wrong with it."""

    draw: Callable[[Rng, int], Product]
    defects: tuple[str, ...]


CATEGORIES = {
    "metal plate": Category(materials.metal_plate, SURFACE_DEFECTS),
    "wooden board": Category(materials.wooden_board, SURFACE_DEFECTS),
    "woven fabric": Category(materials.woven_fabric, (*SURFACE_DEFECTS, "missing part")),
    "leather": Category(materials.leather, SURFACE_DEFECTS),
    "terrazzo tile": Category(materials.terrazzo, SURFACE_DEFECTS),
    "rubber mat": Category(materials.rubber_mat, (*SURFACE_DEFECTS, "missing part")),
    "wire mesh": Category(materials.wire_mesh, (*SURFACE_DEFECTS, "missing part")),
    "cork": Category(materials.cork, (*SURFACE_DEFECTS, "missing part")),
    "washer": Category(objects.washer, OBJECT_DEFECTS),
    "gear": Category(objects.gear, OBJECT_DEFECTS),
    "bottle cap": Category(objects.bottle_cap, PRINTED_DEFECTS),
    "bean": Category(objects.bean, OBJECT_DEFECTS),
    "biscuit": Category(objects.biscuit, OBJECT_DEFECTS),
    "printed label": Category(objects.printed_label, PRINTED_DEFECTS),
    "dial gauge": Category(objects.dial_gauge, PRINTED_DEFECTS),
    "connector": Category(objects.connector, OBJECT_DEFECTS),
    "metal casting": Category(objects.metal_casting, OBJECT_DEFECTS),
    "capsule": Category(objects.capsule, PRINTED_DEFECTS),
    "printed circuit board": Category(objects.printed_circuit_board, PRINTED_DEFECTS),
}
TEST_CATEGORIES = ("woven fabric", "metal casting", "capsule", "bottle cap")
TRAIN_CATEGORIES = tuple(name for name in CATEGORIES if name not in TEST_CATEGORIES)

DEFECTS: dict[str, Callable[[Rng, Product], tuple[Field, NDArray[np.bool_]]]] = {
    "scratch": defects.scratch,
    "crack": defects.crack,
    "hole": defects.hole,
    "stain": defects.stain,
    "missing part": defects.missing_part,
    "misprint": defects.misprint,
    "deformation": defects.deformation,
}


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

    def mask_png(self) -> bytes:
        """The mask as bytes of an 8-bit PNG, white on the defect."""
        buffer = io.BytesIO()
        Image.fromarray(self.mask.astype(np.uint8) * 255).save(buffer, "PNG")
        return buffer.getvalue()


def damage(rng: Rng, product: Product, defect: str) -> tuple[Field, NDArray[np.bool_]]:
    """Draw until the defect can be seen: nobody would label one that can't."""
    best = (product.image, np.zeros(product.body.shape, dtype=bool))
    most = -1.0
    for _ in range(MAX_DRAWS):
        image, mask = DEFECTS[defect](rng, product)
        visibility = _visibility(product.image, image, mask)
        if visibility > most:
            best, most = (image, mask), visibility
        if most >= 1:
            break
    return best


def _visibility(good: Field, damaged: Field, mask: NDArray[np.bool_]) -> float:
    """At least 1 where enough pixels change by enough, and most of the mask is among them."""
    if not mask.any():
        return 0.0
    blurred = ndimage.gaussian_filter(damaged - good, (len(mask) / 128,) * 2 + (0,))
    change = np.abs(blurred).max(-1)
    visible = (change > VISIBLE_CHANGE) & mask
    return float(
        min(
            visible.mean() / MIN_VISIBLE_AREA,
            visible.sum() / mask.sum() / MIN_VISIBLE_SHARE,
            change[mask].mean() / MIN_MEAN_CHANGE,
        )
    )


@dataclass(frozen=True)
class Shot:
    """Lamp, lens and sensor of one photograph."""

    angle: float
    """Radians, the side that the light comes from."""
    slope: float
    """How much lighter it is there, as a share, than in the middle."""
    level: float
    """Light in the middle; 1 shows the product's own colours."""
    falloff: float
    """How much darker the middle of each side is, as a share."""
    tint: Field
    """[3], the light's colour."""
    blur: float
    """Pixels."""
    noise: float
    """Grey levels of 255."""


def any_shot(rng: Rng) -> Shot:
    """Uneven light from a random side, its colour, a lens and a sensor."""
    return Shot(
        angle=rng.uniform(0, 2 * np.pi),
        slope=rng.uniform(0.02, 0.13),
        level=rng.uniform(0.85, 1.12),
        falloff=rng.uniform(0, 0.12),
        tint=rng.normal(1, 0.025, 3),
        blur=rng.uniform(0.3, 0.8),
        noise=rng.uniform(0.8, 3.0),
    )


def photograph(rng: Rng, image: Field, shot: Shot) -> NDArray[np.uint8]:
    """The image [size, size, 3] as the sensor sees it; ``rng`` makes the noise."""
    y, x = pixel_grid(len(image))
    slope = shot.slope * (x * np.cos(shot.angle) + y * np.sin(shot.angle))
    light = shot.level + slope - shot.falloff * (x**2 + y**2)
    image = image * light[..., None] * shot.tint
    image = ndimage.gaussian_filter(image, (shot.blur,) * 2 + (0,))
    noise = shot.noise * rng.standard_normal(image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
