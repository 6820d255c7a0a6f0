"""Logit grid ↔ map: against PyTorch's and SciPy's own, and what a row says about a map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.anomaly_map import (
    Q8,
    Q15,
    dequantize,
    quantize,
    render,
    render_logits,
    summarize,
    summarize_all,
)

CALM, HOT = -20.0, 8.0  # logits of patches that are surely normal and surely abnormal


def random_grid(rows: int = 37, columns: int = 37, seed: int = 0) -> NDArray[np.float32]:
    """Logit differences as large as the model's."""
    rng = np.random.default_rng(seed)
    return (10 * rng.standard_normal((rows, columns))).astype(np.float32)


def grid_with(
    *patches: tuple[int, int, float], rows: int = 8, columns: int = 8
) -> NDArray[np.float32]:
    """A calm grid with some (row, column, logit) patches."""
    grid = np.full((rows, columns), CALM, dtype=np.float32)
    for row, column, logit in patches:
        grid[row, column] = logit
    return grid


@pytest.mark.parametrize(
    ("rows", "columns", "height", "width"),
    [
        (37, 37, 518, 518),
        (12, 12, 168, 168),
        (37, 37, 37, 37),
        (37, 37, 20, 11),
        (5, 9, 101, 64),
        (1, 1, 8, 8),
        (4, 4, 1, 1),
        (3, 2, 1, 7),
    ],
)
def test_render_is_torchs_aligned_bilinear_resize_and_a_sigmoid(
    rows: int, columns: int, height: int, width: int
) -> None:
    grid = random_grid(rows, columns)
    resized = F.interpolate(
        torch.from_numpy(grid)[None, None].double(),
        (height, width),
        mode="bilinear",
        align_corners=True,
    )
    rendered = render(grid, (height, width))
    assert rendered.dtype == np.float32
    # The grid holds logits up to 40, whose float32 steps are 4e-6; a quarter of that in the map.
    np.testing.assert_allclose(rendered, torch.sigmoid(resized)[0, 0], atol=2e-6)


def test_render_takes_a_side_or_height_and_width() -> None:
    grid = random_grid(6, 6)
    np.testing.assert_array_equal(render(grid, 24), render(grid, (24, 24)))
    assert render(grid, (24, 30)).shape == (24, 30)


def test_render_at_the_grids_size_is_the_sigmoid_of_the_grid() -> None:
    grid = random_grid(5, 7)
    np.testing.assert_allclose(render(grid, (5, 7)), 1 / (1 + np.exp(-grid)), atol=1e-6)


def test_render_with_sigma_is_scipys_gaussian_of_the_map() -> None:
    grid = random_grid(12, 12)
    expected = ndimage.gaussian_filter(render(grid, 168), sigma=4)
    np.testing.assert_array_equal(render(grid, 168, sigma=4.0), expected)


def test_logits_are_filtered_before_the_sigmoid() -> None:
    grid = random_grid(12, 12)
    plain = render_logits(grid, (60, 50))
    np.testing.assert_allclose(1 / (1 + np.exp(-plain)), render(grid, (60, 50)), atol=2e-6)
    filtered = render_logits(grid, (60, 50), sigma=4.0)
    np.testing.assert_allclose(filtered, ndimage.gaussian_filter(plain, 4), rtol=0, atol=1e-5)
    saturated = render_logits(np.array([[30.0, 40.0]]), (1, 2))
    assert saturated[0, 0] < saturated[0, 1]
    assert np.unique(render(np.array([[30.0, 40.0]]), (1, 2))).size == 1


@pytest.mark.parametrize(
    ("height", "width", "sigma"), [(5, 300, 4.0), (101, 48, 1.3), (1, 1, 2.0), (64, 49, 30.0)]
)
def test_any_side_and_sigma_is_smoothed_as_by_scipy(height: int, width: int, sigma: float) -> None:
    """Also maps smaller than the filter, which it mirrors several times."""
    grid = random_grid(5, 7)
    expected = ndimage.gaussian_filter(render(grid, (height, width)), sigma)
    rendered = render(grid, (height, width), sigma)
    assert rendered.flags.c_contiguous
    np.testing.assert_allclose(rendered, expected, rtol=0, atol=1e-7)


def test_extreme_logits_stay_probabilities() -> None:
    rendered = render(np.array([[-200.0, 200.0]]), (3, 9), sigma=1.0)
    assert np.isfinite(rendered).all()
    assert rendered.min() >= 0
    assert rendered.max() <= 1


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0, 20.0])
def test_a_stored_grid_gives_the_same_map(scale: float) -> None:
    grid = random_grid() / 10 * scale
    stored = quantize(grid, Q8)
    assert stored.dtype == np.int16
    found = render(dequantize(stored, Q8), 200)
    np.testing.assert_allclose(found, render(grid, 200), rtol=0, atol=6e-4)


def test_beyond_the_range_of_fixed_point_numbers_comes_its_end() -> None:
    values = np.array([-1e9, -128.0, -1 / 512, 0.0, 127.99, 1e9])
    assert quantize(values, Q8).tolist() == [-32768, -32768, 0, 0, 32765, 32767]
    assert quantize(np.array([-1.0, 1.0]), Q15).tolist() == [-32768, 32767]
    far = dequantize(quantize(values[[0, -1]], Q8), Q8)
    assert render(far[None], (1, 2)).tolist() == [[0.0, 1.0]]


def test_grids_in_a_batch_are_summed_up_as_alone() -> None:
    """Their regions don't touch, although the grids lie one behind the other."""
    grids = np.stack([random_grid(7, 9, seed) for seed in range(5)])
    widths, heights = np.array([640, 31, 9, 1000, 64]), np.array([480, 17, 7, 3, 64])
    found = summarize_all(grids, widths, heights)
    for i in range(5):
        alone = summarize(grids[i], int(widths[i]), int(heights[i]))
        assert (found.map_max[i], found.anomalous_area[i]) == alone[:2]
        assert tuple(found.boxes[i]) == alone.box
    assert summarize_all(grids[:0], widths[:0], heights[:0]).boxes.shape == (0, 4)


def test_map_max_is_the_rendered_maps_peak_at_any_size() -> None:
    grid = random_grid()
    peak = summarize(grid, 640, 480).map_max
    assert peak == pytest.approx(render(grid, 37).max(), abs=1e-6)
    assert peak >= render(grid, 518).max() - 1e-6
    assert summarize(grid_with((2, 3, 0.0)), 64, 64).map_max == 0.5


def test_nothing_abnormal_has_no_area() -> None:
    summary = summarize(np.full((8, 8), CALM), 64, 64)
    assert summary.anomalous_area == 0.0
    assert summary.map_max == pytest.approx(0, abs=1e-6)


def test_everything_abnormal_has_the_whole_area_and_the_whole_box() -> None:
    summary = summarize(np.full((8, 8), HOT), 65, 33)
    assert summary.anomalous_area == 1.0
    assert summary.box == (0, 0, 65, 33)


def test_half_abnormal_has_half_the_area() -> None:
    grid = np.full((8, 8), -5.0)
    grid[:, 4:] = 5.0
    summary = summarize(grid, 80, 40)
    assert summary.anomalous_area == pytest.approx(0.5, abs=0.02)
    assert summary.box == (40, 0, 80, 40)


def test_area_is_the_share_of_the_rendered_map_above_one_half() -> None:
    grid = random_grid(12, 12)
    area = summarize(grid, 100, 100).anomalous_area
    assert area == pytest.approx((render(grid, 500) > 0.5).mean(), abs=0.02)


@pytest.mark.parametrize(
    ("row", "column", "box"),
    [(2, 5, (500, 100, 600, 150)), (0, 0, (0, 0, 100, 50)), (7, 7, (700, 350, 800, 400))],
)
def test_a_hot_patch_is_boxed_in_original_pixels(
    row: int, column: int, box: tuple[int, int, int, int]
) -> None:
    assert summarize(grid_with((row, column, HOT)), 800, 400).box == box


def test_a_region_reaches_to_half_of_its_peak() -> None:
    # 0.5 and 0.3 of probability beside a peak of about 0.9
    grid = grid_with((3, 3, 2.2), (3, 4, 0.0), (3, 2, -0.85))
    assert summarize(grid, 80, 80).box == (30, 30, 50, 40)


def test_the_box_is_of_the_stronger_of_two_blobs() -> None:
    weak = [(row, column, 2.0) for row in (0, 1, 2) for column in (0, 1, 2)]
    strong = [(6, 6, 3.0), (6, 7, 2.5)]
    assert summarize(grid_with(*weak, *strong), 80, 80).box == (60, 60, 80, 70)


def test_a_constant_grid_is_one_region() -> None:
    for logit in (CALM, 0.0, HOT, -500.0):
        assert summarize(np.full((5, 5), logit), 31, 17).box == (0, 0, 31, 17)


def test_summaries_are_plain_python_numbers() -> None:
    summary = summarize(random_grid().astype(np.float16), 640, 480)
    assert type(summary.map_max) is float
    assert type(summary.anomalous_area) is float
    assert [type(side) for side in summary.box] == [int] * 4


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    seed=st.integers(0, 1000),
)
def test_the_box_lies_within_the_image_and_holds_the_peak(
    rows: int, columns: int, width: int, height: int, seed: int
) -> None:
    grid = random_grid(rows, columns, seed)
    summary = summarize(grid, width, height)
    x0, y0, x1, y1 = summary.box
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    top, left = np.unravel_index(grid.argmax(), grid.shape)
    assert x0 <= (left + 0.5) * width / columns <= x1
    assert y0 <= (top + 0.5) * height / rows <= y1
    assert 0 <= summary.anomalous_area <= 1
    assert 0 <= summary.map_max <= 1
