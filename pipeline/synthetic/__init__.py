"""Generated product images with defects and masks: deterministic by seed.

They stand in for photographs where no data set may be had: in the demo, in tests, and to train
the small model that comes with the package. ``TEST_CATEGORIES`` never enter that training.
``generate_line`` shows one product many times, ``generate_scene`` another view each time.
"""

from __future__ import annotations

import numpy as np

from .invented import invent
from .lines import LINE_CATEGORIES, generate_line
from .samples import (
    CATEGORIES,
    DEFECTS,
    OBJECT_DEFECTS,
    PRINTED_DEFECTS,
    SURFACE_DEFECTS,
    TEST_CATEGORIES,
    TRAIN_CATEGORIES,
    Category,
    Sample,
    any_shot,
    damage,
    photograph,
)
from .scenes import SCENE_DEFECTS, generate_scene

__all__ = [
    "CATEGORIES",
    "DEFECTS",
    "LINE_CATEGORIES",
    "OBJECT_DEFECTS",
    "PRINTED_DEFECTS",
    "SCENE_DEFECTS",
    "SURFACE_DEFECTS",
    "TEST_CATEGORIES",
    "TRAIN_CATEGORIES",
    "Category",
    "Sample",
    "generate",
    "generate_invented",
    "generate_line",
    "generate_scene",
]


def generate(category: str, defect: str, seed: int, size: int = 320) -> Sample:
    """Make one image.

    Args:
        category: a key of ``CATEGORIES``.
        defect: one of the category's ``defects``, or "good".
        seed: the same arguments give the same image; another defect with the same seed gives the
            same product, damaged otherwise.
        size: side in pixels.

    Raises:
        ValueError: unknown category, or a defect that it doesn't have.
    """
    if category not in CATEGORIES:
        raise ValueError(f"no category {category!r}; there are: {', '.join(CATEGORIES)}")
    kind = CATEGORIES[category]
    if defect not in (*kind.defects, "good"):
        raise ValueError(
            f"{category!r} has no defect {defect!r}; it has: good, {', '.join(kind.defects)}"
        )
    product_rng, photograph_rng, defect_rng = (
        np.random.default_rng([seed, *text.encode()])
        for text in (category, f"{category} photographed", f"{category} {defect}")
    )
    product = kind.draw(product_rng, size)
    image, mask = product.image, np.zeros((size, size), dtype=bool)
    if defect != "good":
        image, mask = damage(defect_rng, product, defect)
    shot = any_shot(photograph_rng)
    return Sample(photograph(photograph_rng, image, shot), mask, defect)


def generate_invented(seed: int, damaged: int, size: int = 320) -> tuple[str, list[Sample]]:
    """Invent a product, and photograph it good and damaged.

    Args:
        seed: every seed invents another product, and the same one again.
        damaged: pictures of it with a defect of a random kind, beside the good one.
        size: side in pixels.

    Returns:
        A name for the product, and 1 + ``damaged`` pictures in the same light, the good one first.
    """
    product_rng, photograph_rng, defect_rng = (
        np.random.default_rng([seed, *text.encode()])
        for text in ("invented", "invented, photographed", "invented, damaged")
    )
    product, name, printed = invent(product_rng, size)
    nothing = np.zeros((size, size), dtype=bool)
    shot = any_shot(photograph_rng)
    noise = photograph_rng.bit_generator.state
    samples = [Sample(photograph(photograph_rng, product.image, shot), nothing, "good")]
    kinds = [kind for kind in PRINTED_DEFECTS if printed or kind != "misprint"]
    for _ in range(damaged):
        defect = str(defect_rng.choice(kinds))
        image, mask = damage(defect_rng, product, defect)
        photograph_rng.bit_generator.state = noise
        samples.append(Sample(photograph(photograph_rng, image, shot), mask, defect))
    return name, samples
