"""Production lines keep the design and vary the photograph; scenes vary everything."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.synthetic import (
    CATEGORIES,
    LINE_CATEGORIES,
    OBJECT_DEFECTS,
    SCENE_DEFECTS,
    TEST_CATEGORIES,
    Sample,
    canvas,
    generate_line,
    generate_scene,
    invented,
    scenes,
)

SIZE = 96
VISIBLE = 15  # grey values
Draw = Callable[[int, str], Sample]


def _line(category: str, line: int, **options: int) -> Draw:
    return lambda number, defect: generate_line(
        category, line, number, defect, size=SIZE, **options
    )


def _scene(collection: int) -> Draw:
    return lambda number, defect: generate_scene(collection, number, defect, size=SIZE)


def _mean_colours(draw: Draw, numbers: range) -> NDArray[np.float64]:
    return np.array([draw(number, "good").image.mean((0, 1)) for number in numbers])


@pytest.mark.parametrize("draw", [_line("capsule", 3), _line("invented", 3), _scene(3)])
def test_the_arguments_decide_everything(draw: Draw) -> None:
    first, again = draw(7, "hole"), draw(7, "hole")
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert (draw(8, "hole").image != first.image).any()


@pytest.mark.parametrize("category", LINE_CATEGORIES)
def test_photographs_of_a_line_differ_and_all_are_good(category: str) -> None:
    samples = [generate_line(category, 0, number, size=SIZE) for number in range(2)]
    for sample in samples:
        assert sample.image.shape == (SIZE, SIZE, 3)
        assert sample.image.dtype == np.uint8
        assert not sample.mask.any()
    assert (samples[0].image != samples[1].image).any(-1).mean() > 0.5


@pytest.mark.parametrize("category", [*TEST_CATEGORIES, "invented"])
def test_a_line_keeps_its_colours_and_lines_differ_in_them(category: str) -> None:
    lines = [_mean_colours(_line(category, line), range(4)) for line in range(8)]
    within = np.mean([line.std(axis=0) for line in lines])
    between = np.std([line.mean(axis=0) for line in lines], axis=0).mean()
    assert within < 0.25 * between


@pytest.mark.parametrize("category", CATEGORIES)
def test_but_for_the_grain_parts_of_one_design_are_one(category: str) -> None:
    first, second, stranger = (
        CATEGORIES[category].draw(_part_rng(design, part), SIZE)
        for design, part in ((1, 1), (1, 2), (4, 2))
    )
    alike, strange = (
        np.abs(ndimage.gaussian_filter(first.image - other.image, (2, 2, 0))).mean()
        for other in (second, stranger)
    )
    assert alike < 0.4 * strange
    assert (first.body == second.body).mean() > (0.9 if category == "bean" else 0.999)


def test_but_for_the_grain_invented_parts_of_one_design_are_one() -> None:
    for design in range(16):
        (first, name, _), (second, same, _) = (
            invented.invent(_part_rng(design, part), SIZE) for part in (1, 2)
        )
        assert name == same
        assert (first.body == second.body).all()
        assert (first.image != second.image).any()


def _part_rng(design: int, part: int) -> canvas.PartRng:
    rng = np.random.default_rng
    return canvas.PartRng(rng(design), rng(part), canvas.Placing(), zoom=1.0)


def test_a_part_lies_where_its_placing_says() -> None:
    y, x = canvas.pixel_grid(SIZE)
    placing = canvas.Placing(turn=0.5, largest=1.0, down=0.2, across=-0.1, scale=1.1)
    v, u = placing.moved(y, x, turn=2.0)
    centre = np.hypot(v, u).argmin()
    np.testing.assert_allclose((y.flat[centre], x.flat[centre]), (0.2, -0.1), atol=1.5 / SIZE)
    assert np.hypot(v, u).max() == pytest.approx(np.hypot(y - 0.2, x + 0.1).max() / 1.1)
    little, _ = placing.moved(y, x, turn=0.0)
    np.testing.assert_allclose(little, (y - 0.2) / 1.1)


@pytest.mark.parametrize(
    "draw",
    [
        *(_line(category, 2) for category in (*TEST_CATEGORIES, "invented")),
        *(_line(category, 2, repeat_of=1) for category in (*TEST_CATEGORIES, "invented")),
        _scene(0),
    ],
)
def test_only_the_damage_tells_twins_apart(draw: Draw) -> None:
    inside, beside, area = 0, 0, 0
    for number, defect in enumerate(SCENE_DEFECTS):
        good, damaged = draw(number, "good"), draw(number, defect)
        assert damaged.defect == defect
        assert 0.0002 < damaged.mask.mean() < 0.15
        changed = np.abs(damaged.image.astype(int) - good.image).max(axis=-1) > VISIBLE
        area += damaged.mask.sum()
        inside += changed[damaged.mask].sum()
        beside += (changed & ~ndimage.binary_dilation(damaged.mask, iterations=10)).sum()
    assert inside > 0.3 * area
    assert beside < 0.1 * inside


def test_a_repeated_fault_stays_where_it_is_on_the_part() -> None:
    """Leather is never moved; this line's capsules lie any way."""
    fixed = [generate_line("leather", 0, n, "hole", size=SIZE, repeat_of=5) for n in range(3)]
    assert all((sample.mask == fixed[0].mask).all() for sample in fixed)
    own = [generate_line("leather", 0, n, "hole", size=SIZE) for n in range(3)]
    assert not (own[0].mask & own[1].mask & own[2].mask).any()
    turned = [generate_line("capsule", 10, n, "hole", size=SIZE, repeat_of=5) for n in range(8)]
    assert not np.logical_and.reduce([sample.mask for sample in turned]).any()
    areas = np.array([sample.mask.sum() for sample in turned])
    assert areas.std() < 0.1 * areas.mean()


def test_looks_are_designs_of_their_own_on_the_same_ground() -> None:
    draw, plain = _line("bottle cap", 13, num_looks=2), _line("bottle cap", 13)
    pairs = [(draw(n, "good").image, plain(n, "good").image) for n in range(12)]
    first = [(mixed == alone).all() for mixed, alone in pairs]
    assert 3 <= sum(first) <= 9
    colours = np.array([mixed.mean((0, 1)) for mixed, _ in pairs])
    one, other = colours[first], colours[~np.array(first)]
    apart = np.abs(one.mean(0) - other.mean(0)).max()
    assert apart > 4 * max(one.std(0).max(), other.std(0).max())
    grounds = np.array([mixed[:8, :8].mean((0, 1)) for mixed, _ in pairs])
    assert grounds.std(0).max() < 5


def test_views_of_a_collection_share_no_colours() -> None:
    for collection in range(3):
        assert _mean_colours(_scene(collection), range(12)).std(axis=0).min() > 18


THINGS = dict.fromkeys(thing for family in scenes.FAMILIES.values() for thing in family.things)


@pytest.mark.parametrize("thing", THINGS)  # in one order: processes must find the same tests
def test_everything_that_may_lie_in_a_scene_shows(thing: scenes.Thing) -> None:
    plain = np.full((SIZE, SIZE, 3), 120.0)
    drawn = [thing(np.random.default_rng(seed), plain) for seed in range(6)]
    assert all(np.isfinite(image).all() for image in drawn)
    assert any(np.abs(image - plain).max() > 20 for image in drawn)


def test_unknown_names_are_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'cheese'.*metal plate.*invented"):
        generate_line("cheese", 0, 0)
    with pytest.raises(ValueError, match=r"'washer' has no defect 'misprint'.*scratch"):
        generate_line("washer", 0, 0, "misprint")
    with pytest.raises(ValueError, match=f"'invented' has no .*{OBJECT_DEFECTS[-1]}"):
        generate_line("invented", 0, 0, "misprint")
    with pytest.raises(ValueError, match="num_looks must be at least 1, not 0"):
        generate_line("washer", 0, 0, num_looks=0)
    with pytest.raises(ValueError, match=r"no defect 'misprint'.*crack"):
        generate_scene(0, 0, "misprint")
