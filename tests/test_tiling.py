"""Layouts of tiles: whole patches, every patch from one tile, one tile where one is enough."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tiling import OVERLAP, WHOLE, Tiling

pixels = st.integers(1, 30_000)
tilings = st.builds(Tiling, st.integers(1, 12), st.integers(16, 3_000))
sides = st.integers(4, 40)


@given(tilings, pixels, pixels, sides)
def test_tiles_cover_the_image_and_overlap(
    tiling: Tiling, width: int, height: int, side: int
) -> None:
    layout = tiling.layout(width, height, side=side)
    for starts, extent in ((layout.tops, layout.height), (layout.lefts, layout.width)):
        assert starts[0] == 0
        assert starts[-1] + side == extent
        assert len(starts) <= tiling.most
        steps = np.diff(starts)
        assert (steps >= 1).all()
        assert (steps <= side - max(1, side // OVERLAP)).all()
    assert layout.num_tiles == len(list(layout.starts()))


@given(tilings, pixels, pixels, sides)
def test_a_patch_comes_from_the_tile_in_which_it_is_most_central(
    tiling: Tiling, width: int, height: int, side: int
) -> None:
    layout = tiling.layout(width, height, side=side)
    y, x = np.mgrid[0 : layout.height, 0 : layout.width]
    whole = y * layout.width + x
    starts = list(layout.starts())
    where = [whole[top : top + side, left : left + side] for top, left in starts]
    np.testing.assert_array_equal(layout.stitch(where), whole)
    tile_of = layout.stitch([np.full((side, side), number) for number in range(len(starts))])
    middles = np.array(starts) + (side - 1) / 2
    for row, column in ((0, 0), (layout.height // 2, layout.width // 3), (-1, -1)):
        at = np.array([y[row, column], x[row, column]])
        distances = np.abs(middles - at)
        chosen = distances[tile_of[row, column]]
        assert (chosen == distances.min(axis=0)).all()


@pytest.mark.parametrize(
    ("tiling", "width", "height", "tops", "lefts"),
    [
        (WHOLE, 4_096, 4_096, (0,), (0,)),
        (Tiling(8, 518), 518, 300, (0,), (0,)),
        (Tiling(8, 518), 519, 100, (0,), (0,)),  # less than a patch more
        (Tiling(8, 518), 1_036, 518, (0,), (0, 18, 37)),
        (Tiling(2, 518), 5_180, 518, (0,), (0, 33)),  # tiles that cover more than was asked
        (Tiling(8, 1_036), 1_036, 2_072, (0, 18, 37), (0,)),
    ],
)
def test_tiles_of_some_sizes(
    tiling: Tiling, width: int, height: int, tops: tuple[int, ...], lefts: tuple[int, ...]
) -> None:
    layout = tiling.layout(width, height, side=37)
    assert (layout.tops, layout.lefts) == (tops, lefts)


def test_a_model_is_named_after_its_tiles() -> None:
    assert WHOLE.suffix == ""
    assert Tiling(4, 1_036).suffix == "-tiles4of1036"
    assert Tiling(4, 518).suffix != Tiling(5, 518).suffix
