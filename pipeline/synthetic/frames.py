"""Large frames of a surface with a defect of a few pixels, as line-scan cameras see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .canvas import Product, Rng
from .samples import CATEGORIES, Sample, any_shot, damage, photograph

SPOTS = ("hole", "stain")  # defects that are about as wide as high, so that one number tells a size
# Pixels around a defect, as multiples of its size, in which it is drawn; what ``damage`` makes of
# an image of that side is then about so large.
LEAST_AROUND, AROUND, MOST_AROUND = 4, 8, 24
TOLERANCE = 0.15  # of the size that is asked for
MAX_DRAWS = 200


def generate_frame(
    category: str, seed: int, sizes: Sequence[int], *, frame: int = 4096
) -> list[Sample]:
    """One photograph of a surface: good, and with one defect of each size.

    Args:
        category: of ``CATEGORIES``, one that fills the image.
        seed: the same arguments give the same frames.
        sizes: longer sides of the defects in pixels.
        frame: side of the photograph in pixels.

    Returns:
        ``1 + len(sizes)`` samples of [frame, frame], the good one first. They are the same
        photograph but for the defects.

    Raises:
        RuntimeError: no defect of a size could be drawn.
    """
    letters = category.encode()
    product = CATEGORIES[category].draw(np.random.default_rng([seed, 0, *letters]), frame)
    shot = any_shot(np.random.default_rng([seed, 1]))

    def sample(image: np.ndarray, mask: np.ndarray, defect: str) -> Sample:
        return Sample(photograph(np.random.default_rng([seed, 2]), image, shot), mask, defect)

    found = [sample(product.image, np.zeros((frame, frame), bool), "good")]
    for size in sizes:
        rng = np.random.default_rng([seed, 3, size])
        found.append(sample(*_damaged(rng, product, SPOTS[int(rng.integers(2))], size)))
    return found


def _damaged(
    rng: Rng, product: Product, defect: str, size: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Image and mask with a defect of about a size somewhere, and its name."""
    frame, around = len(product.body), AROUND * size
    for _ in range(MAX_DRAWS):
        top, left = (int(each) for each in rng.integers(0, frame - around, 2))
        part = slice(top, top + around), slice(left, left + around)
        if not product.body[part].all():
            continue
        crop = Product(product.image[part], product.body[part], product.background[part])
        image, mask = damage(rng, crop, defect)
        rows, columns = np.nonzero(mask)
        extent = 1 + int(max(np.ptp(rows), np.ptp(columns))) if len(rows) else 0
        if abs(extent - size) <= max(1, TOLERANCE * size):
            whole, where = product.image.copy(), np.zeros((frame, frame), bool)
            whole[part], where[part] = image, mask
            return whole, where, defect
        wanted = around * size // max(extent, 1)
        around = min(max(wanted, LEAST_AROUND * size), MOST_AROUND * size, frame - 1)
    raise RuntimeError(f"no {defect} of {size} pixels on this product")
