"""Production lines: one design on each; pose, grain, light and noise differ from part to part.

Where a data set shows one product many times, each photograph's siblings tell what is normal there.
Here a line's number fixes the design, its place and its lamp, as the seed of ``generate`` fixes one
photograph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .canvas import Field, PartRng, Placing, Product, Rng, paint, pixel_grid
from .invented import invent
from .samples import (
    CATEGORIES,
    MAX_DRAWS,
    OBJECT_DEFECTS,
    Sample,
    Shot,
    any_shot,
    damage,
    photograph,
)

INVENTED = "invented"
LINE_CATEGORIES = (*CATEGORIES, INVENTED)

LOOSE_SHARE = 0.5  # of the lines take parts as they fall; fixtures hold those of the others
# Largest turn in radians, shift as a share of half the image, change of size as a share.
FIXED = (0.07, 0.03, 0.008)
LOOSE = (np.pi, 0.12, 0.025)
ZOOM = (0.8, 0.92)  # smaller than the design, to keep turned corners and moved parts in the picture
ALWAYS_SEEN = 0.7  # of half the image: what loose sheets show however they are moved and turned
REPLACED = 20.0  # grey levels: where damage changes this much, nothing of the part is left to see


def generate_line(
    category: str,
    line: int,
    number: int,
    defect: str = "good",
    *,
    size: int = 320,
    num_looks: int = 1,
    repeat_of: int | None = None,
) -> Sample:
    """Photograph one part on a production line.

    Args:
        category: a key of ``CATEGORIES``, or "invented" for products that exist nowhere else.
        line: fixes the design, the place it is photographed at and how parts come to lie there.
        number: of the part; it has its own pose and grain, light and noise that drift. Another
            defect with the same number gives the same photograph, damaged otherwise.
        defect: one of the category's ``defects`` (of an invented product ``OBJECT_DEFECTS``), or
            "good".
        size: side in pixels.
        num_looks: the line's parts come in so many designs, mixed at random.
        repeat_of: a systematic fault: parts with the same ``repeat_of`` and defect bear the same
            damage, at the same place of the part.

    Raises:
        ValueError: unknown category, a defect that it doesn't have, or no look.
    """
    _check(category, defect, num_looks)
    here = _Line(category, line, size)
    look = int(here.rng("look", number).integers(num_looks))
    own = here.rng("photographed", number)
    product, rng = here.drawn(number, look, here.placing(own))
    image, mask = product.image, np.zeros((size, size), dtype=bool)
    if defect != "good" and repeat_of is None:
        image, mask = damage(here.rng(defect, number), product, defect)
    elif repeat_of is not None and defect != "good":
        image, mask = _transferred(_fault(here, look, defect, repeat_of), product, rng)
    shot = _drifted(own, any_shot(here.rng("shot")))
    return Sample(photograph(own, image, shot), mask, defect)


@dataclass(frozen=True)
class _Line:
    category: str
    seed: int
    size: int

    def rng(self, purpose: str, number: int = 0) -> Rng:
        return np.random.default_rng([self.seed, number, *f"{self.category} {purpose}".encode()])

    def placing(self, rng: Rng) -> Placing:
        """Loose parts lie anyhow, those in a fixture nearly alike."""
        loose = self.rng("feeding").random() < LOOSE_SHARE
        largest, shift, scale = LOOSE if loose else FIXED
        turn, down, across, nearer = rng.uniform(-1, 1, 4)
        return Placing(turn, largest, shift * down, shift * across, 1 + scale * nearer)

    def drawn(self, number: int, look: int, placing: Placing) -> tuple[Product, PartRng]:
        part, zoom = self.rng("part", number), self.rng("camera").uniform(*ZOOM)
        station = PartRng(self.rng("station"), part, placing, zoom)
        rng = PartRng(self.rng("design", look), part, placing, zoom, station)
        if self.category == INVENTED:
            return invent(rng, self.size)[0], rng
        return CATEGORIES[self.category].draw(rng, self.size), rng


def _check(category: str, defect: str, num_looks: int) -> None:
    if category not in LINE_CATEGORIES:
        raise ValueError(f"no category {category!r}; there are: {', '.join(LINE_CATEGORIES)}")
    known = OBJECT_DEFECTS if category == INVENTED else CATEGORIES[category].defects
    if defect not in (*known, "good"):
        raise ValueError(f"{category!r} has no defect {defect!r}; it has: good, {', '.join(known)}")
    if num_looks < 1:
        raise ValueError(f"num_looks must be at least 1, not {num_looks}")


def _drifted(rng: Rng, shot: Shot) -> Shot:
    """The line's shot as this photograph has it: lamps flicker, focus and exposure hunt."""
    return replace(
        shot,
        angle=shot.angle + rng.normal(0, 0.1),
        slope=shot.slope * rng.uniform(0.8, 1.2),
        level=shot.level * rng.normal(1, 0.015),
        tint=shot.tint * rng.normal(1, 0.006, 3),
        blur=shot.blur + rng.uniform(0, 0.25),
        noise=shot.noise * rng.uniform(0.9, 1.2),
    )


@lru_cache(maxsize=8)  # of some MB each; parts with one fault are usually drawn in a row
def _fault(line: _Line, look: int, defect: str, number: int) -> Field:
    """[5, size, size]: a part at rest with damage; where it replaces what was there; its mask."""
    template, _ = line.drawn(number, look, Placing())
    rng = line.rng(defect, number)
    y, x = pixel_grid(line.size)
    middle = np.maximum(np.abs(y), np.abs(x)) < ALWAYS_SEEN
    for _ in range(MAX_DRAWS):
        image, mask = damage(rng, template, defect)
        if (mask & middle).sum() > 0.8 * mask.sum():
            break
    changed = np.clip(np.abs(image - template.image).max(-1) / REPLACED, 0, 1)
    return np.stack([*np.moveaxis(image, -1, 0), changed, mask])


def _transferred(fault: Field, product: Product, rng: PartRng) -> tuple[Field, NDArray[np.bool_]]:
    """The damage, as on the part at rest, on a product of the same design that ``rng`` drew."""
    if rng.grid is not None:
        at = (np.stack(rng.grid) + 1) / 2 * (fault.shape[-1] - 1)
        fault = np.stack([ndimage.map_coordinates(layer, at, order=1) for layer in fault])
    return paint(product.image, np.moveaxis(fault[:3], 0, -1), fault[3]), fault[4] > 0.5
