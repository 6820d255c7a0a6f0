"""Invented products: another one for every seed, and nothing of the categories in it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from scipy import ndimage

from pipeline.synthetic import (
    CATEGORIES,
    DEFECTS,
    PRINTED_DEFECTS,
    generate_invented,
    invented,
    outlines,
    parts,
    patterns,
)
from pipeline.synthetic.canvas import pixel_grid

SIZE = 96
SEEDS = range(24)


def test_the_seed_decides_everything() -> None:
    (name, first), (same, again) = (generate_invented(5, 2, SIZE) for _ in range(2))
    assert name == same
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)
    assert (generate_invented(6, 0, SIZE)[1][0].image != first[0].image).any()


def test_products_differ_in_outline_surface_and_colour() -> None:
    drawn = [generate_invented(seed, 0, SIZE) for seed in SEEDS]
    assert len({name for name, _ in drawn}) > 0.8 * len(SEEDS)
    assert len({name.split()[0] for name, _ in drawn}) > len(patterns.PATTERNS) / 2
    colours = np.array([samples[0].image.mean((0, 1)) for _, samples in drawn])
    assert (colours.std(axis=0) > 25).all()


def test_only_the_damage_tells_twins_apart() -> None:
    inside, beside, area, kinds = 0, 0, 0, set()
    for seed in SEEDS:
        _, (good, damaged) = generate_invented(seed, 1, SIZE)
        assert not good.mask.any()
        assert good.defect == "good"
        kinds.add(damaged.defect)
        changed = np.abs(damaged.image.astype(int) - good.image).max(axis=-1) > 15
        assert damaged.mask.any()
        near = ndimage.binary_dilation(damaged.mask, iterations=12)
        area += damaged.mask.sum()
        inside += changed[damaged.mask].sum()
        beside += (changed & ~near).sum()
    assert inside > 0.25 * area
    assert beside < 0.1 * inside
    assert kinds <= set(DEFECTS)
    assert len(kinds) >= 5


def test_what_has_no_print_has_no_misprint() -> None:
    rng = np.random.default_rng
    unprinted = next(seed for seed in range(99) if not _printed(seed))
    _, samples = generate_invented(unprinted, 12, 48)
    assert "misprint" not in {sample.defect for sample in samples}
    assert "misprint" in PRINTED_DEFECTS
    assert invented.invent(rng(0), 48)[0].image.shape == (48, 48, 3)


def _printed(seed: int) -> bool:
    rng = np.random.default_rng([seed, *b"invented"])
    return invented.invent(rng, 48)[2]


def test_no_drawing_function_of_a_category_takes_part() -> None:
    drawn = {kind.draw.__name__ for kind in CATEGORIES.values()}
    for module in (invented, outlines, parts, patterns):
        source = inspect.getsource(module)
        assert not hasattr(module, "CATEGORIES")
        assert "from .objects" not in source
        assert "from .materials" not in source
        assert not drawn & {name for name in vars(module) if not name.startswith("__")}


@pytest.mark.parametrize("name", outlines.OUTLINES)
def test_every_outline_has_an_inside_within_its_frame(name: str) -> None:
    y, x = pixel_grid(64)
    for seed in range(5):
        distance = outlines.OUTLINES[name](np.random.default_rng(seed), 1.2 * y, 1.2 * x)
        assert 0.05 < (distance < 0).mean() < 0.75
        beyond = np.maximum(np.abs(y), np.abs(x)) > 0.98
        assert not (distance < 0)[beyond].any()


@pytest.mark.parametrize("name", patterns.PATTERNS)
def test_every_pattern_is_finite_and_all_but_the_plain_one_show(name: str) -> None:
    y, x = pixel_grid(64)
    relief = patterns.PATTERNS[name](np.random.default_rng(0), y, x)
    assert np.isfinite(relief).all()
    assert relief.shape == (64, 64)
    assert (relief.std() > 0.02) == (name != "plain")


@pytest.mark.parametrize("part", [*parts.PRINTS, *parts.FEATURES])
def test_every_part_shows_on_some_product(part: parts.Part) -> None:
    y, x = pixel_grid(64)
    plain = np.full((64, 64, 3), 120.0)
    drawn = [part(np.random.default_rng(seed), plain, y, x) for seed in range(4)]
    assert all(np.isfinite(image).all() for image in drawn)
    assert any(np.abs(image - plain).max() > 20 for image in drawn)
