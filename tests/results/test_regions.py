"""Regions of maps: boxes, areas and outlines, against shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.results import Region, find_regions


def distance(height: int, width: int, x: float, y: float) -> NDArray[np.float64]:
    """Of every pixel's centre to a point."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.hypot(columns - x, rows - y)


def disc(height: int, width: int, x: float, y: float, radius: float) -> NDArray[np.float32]:
    """A cone that crosses 0.5 exactly on the circle."""
    cone = 0.5 + (radius - distance(height, width, x, y)) / 100
    return np.clip(cone, 0, 1).astype(np.float32)


def test_a_discs_outline_is_its_circle_below_a_tenth_of_a_pixel() -> None:
    (region,) = find_regions(disc(80, 100, 60.3, 30.7, 20), 0.5)
    (polygon,) = region.polygons
    radii = np.hypot(*(polygon.outer - (60.3, 30.7)).T)
    np.testing.assert_allclose(radii, 20, atol=0.02)
    assert polygon.area == pytest.approx(np.pi * 20**2, rel=1e-3)
    assert region.area == pytest.approx(np.pi * 20**2, rel=0.01)
    assert region.box == (40, 11, 80, 51)
    assert region.peak == pytest.approx(0.7, abs=0.01)
    assert not polygon.holes


def test_a_ring_has_a_hole() -> None:
    ring = np.minimum(disc(80, 80, 40, 40, 30), 1 - disc(80, 80, 40, 40, 15))
    (region,) = find_regions(ring, 0.5)
    (polygon,) = region.polygons
    (hole,) = polygon.holes
    np.testing.assert_allclose(np.hypot(*(hole - 40).T), 15, atol=0.02)
    assert polygon.area == pytest.approx(np.pi * (30**2 - 15**2), rel=1e-3)
    assert not region.mask[30, 30]


def test_a_region_in_a_hole_is_another_region() -> None:
    ring = np.minimum(disc(80, 80, 40, 40, 30), 1 - disc(80, 80, 40, 40, 15))
    outer, inner = sorted(
        find_regions(np.maximum(ring, disc(80, 80, 40, 40, 8)), 0.5), key=lambda r: -r.area
    )
    assert len(outer.polygons[0].holes) == 1
    assert inner.box == (32, 32, 48, 48)
    assert inner.polygons[0].area == pytest.approx(np.pi * 8**2, rel=0.01)


def test_several_regions_come_by_their_peak_and_small_ones_can_be_left_out() -> None:
    both = np.maximum(disc(60, 120, 30, 30, 20), disc(60, 120, 90, 30, 10))
    large, small = find_regions(both, 0.5)
    assert (large.box, small.box) == ((10, 10, 50, 50), (80, 20, 100, 40))
    assert find_regions(both, 0.5, min_area=400)[0].box == large.box
    assert len(find_regions(both, 0.5, min_area=400)) == 1


def test_a_region_at_the_edge_ends_with_the_image() -> None:
    (region,) = find_regions(disc(50, 70, 70, 0, 20), 0.5)
    (polygon,) = region.polygons
    assert region.box == (50, 0, 70, 20)
    assert polygon.outer.min(axis=0)[1] == 0
    assert polygon.outer.max(axis=0)[0] == 70
    assert polygon.area == pytest.approx(np.pi * 20**2 / 4, rel=0.01)


def test_a_map_that_is_all_above_is_the_whole_image() -> None:
    (region,) = find_regions(np.full((6, 9), 0.8, np.float32), 0.5)
    assert region.box == (0, 0, 9, 6)
    assert region.area == region.polygons[0].area == 54
    assert find_regions(np.full((6, 9), 0.8, np.float32), 0.8) == []


def test_a_single_pixel_has_an_outline() -> None:
    for place in ((0, 0), (3, 4), (5, 8)):
        values = np.zeros((6, 9), np.float32)
        values[place] = 1
        (region,) = find_regions(values, 0.5)
        assert region.area == 1
        assert region.polygons[0].area > 0
        assert region.box == (place[1], place[0], place[1] + 1, place[0] + 1)


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    values = np.zeros((8, 8), np.float32)
    values[2, 2] = values[3, 3] = 0.6
    (region,) = find_regions(values, 0.5)
    assert region.area == 2
    assert 1 <= len(region.polygons) <= 2


def test_the_outline_of_a_large_region_has_points_by_the_thousand_only() -> None:
    """At every pixel a map of 9,000 x 12,000 took seconds to minutes, and 60,000 points."""
    values = disc(2_600, 3_900, 1_300.3, 1_250.7, 1_200)
    (region,) = find_regions(values, 0.5)
    (polygon,) = region.polygons
    assert len(polygon.outer) < 5_000
    np.testing.assert_allclose(np.hypot(*(polygon.outer - (1_300.3, 1_250.7)).T), 1_200, atol=0.02)
    assert polygon.area == pytest.approx(region.area, rel=1e-4)
    assert region.area == np.count_nonzero(values > 0.5)


def test_a_large_region_at_the_edge_ends_with_the_image() -> None:
    (region,) = find_regions(disc(2_500, 2_501, 2_501, 0, 2_000), 0.5)
    (polygon,) = region.polygons
    assert region.box == (501, 0, 2_501, 2_000)
    assert polygon.outer.min(axis=0)[1] == 0
    assert polygon.outer.max(axis=0)[0] == 2_501
    assert polygon.area == pytest.approx(np.pi * 2_000**2 / 4, rel=1e-3)


def test_a_large_region_keeps_what_is_narrower_than_its_steps() -> None:
    values = np.eye(2_500, dtype=np.float32)
    (region,) = find_regions(values, 0.5)
    assert region.area == 2_500
    points = np.concatenate([polygon.outer for polygon in region.polygons])
    assert {*range(2_500)} <= {*points.astype(int)[:, 0]}


@pytest.mark.parametrize("seed", range(5))
def test_outlines_of_noise_hold_their_pixels_and_no_others(seed: int) -> None:
    """On any map: a pixel's centre is inside a region's outlines if and only if it is above."""
    rng = np.random.default_rng(seed)
    values = rng.random((17, 23), dtype=np.float32)
    regions = find_regions(values, 0.6)
    inside = np.zeros(values.shape, dtype=int)
    for region in regions:
        found = _inside(region, *values.shape)
        x0, y0, x1, y1 = region.box
        np.testing.assert_array_equal(found[y0:y1, x0:x1], region.mask)
        assert found.sum() == region.area
        inside += found
    np.testing.assert_array_equal(inside, values > 0.6)


def _inside(region: Region, height: int, width: int) -> NDArray[np.int64]:
    """Even-odd rule, a ray to the left from each pixel's centre, moved off the vertices."""
    count = np.zeros((height, width), dtype=int)
    y = np.arange(height)[:, None] + 0.5 + 1e-9
    x = np.arange(width)[None, :] + 0.5
    for polygon in region.polygons:
        for ring in (polygon.outer, *polygon.holes):
            for (xa, ya), (xb, yb) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                if ya != yb:
                    crosses = (ya > y) != (yb > y)
                    count += crosses & (xa + (y - ya) * (xb - xa) / (yb - ya) < x)
    return count % 2
