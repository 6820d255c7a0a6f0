"""Pixel metrics from histograms against scikit-learn and an exact AUPRO."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import expit

from pipeline.evaluation import PixelHistogram
from pipeline.evaluation.pixels import (
    NUM_BINS,
    NUM_LOGIT_BINS,
    PIXEL_METRICS,
    bins_of,
    logit_bins_of,
)
from tests.evaluation import oracle


def histogram(maps: oracle.Maps, masks: oracle.Masks, *, logits: bool = False) -> PixelHistogram:
    made = PixelHistogram(logits=logits)
    for anomaly_map, mask in zip(maps, masks, strict=True):
        made.add(anomaly_map, mask)
    return made


def assert_within_bounds(
    maps: oracle.Maps, masks: oracle.Masks, most: float, *, logits: bool = False
) -> None:
    found = histogram(maps, masks, logits=logits).metrics()
    for name, expected in oracle.pixel_metrics(maps, masks).items():
        assert found[f"{name}_error"] <= most, name
        away = abs(found[name] - expected)
        assert away <= found[f"{name}_error"] + 1e-9, name
        assert away <= max(most, 1e-4), name


@pytest.mark.parametrize(
    ("contrast", "offset"),
    [(1, 0), (1, -6), (5, 0), (20, 0), (8, 12), (40, -40), (0.05, 0)],
)
def test_full_cases_are_exact_to_one_in_ten_thousand(contrast: float, offset: float) -> None:
    assert_within_bounds(*oracle.maps_and_masks(1, contrast=contrast, offset=offset), most=1e-4)


def test_a_map_almost_without_contrast_has_a_wide_bound_that_holds() -> None:
    maps, masks = oracle.maps_and_masks(2, contrast=1e-4)
    assert_within_bounds(maps, masks, most=0.02)
    assert histogram(maps, masks).metrics()["pixel_auroc_error"] > 1e-4


@pytest.mark.parametrize("levels", [1, 2, 5, 256])
def test_ties_are_exact(levels: int) -> None:
    maps, masks = oracle.maps_and_masks(3, contrast=3)
    maps = (np.floor(maps * levels) / levels).astype(np.float32)
    assert_within_bounds(maps, masks, most=0)


def test_values_crowded_at_both_ends_are_told_apart() -> None:
    maps, masks = oracle.maps_and_masks(4, contrast=1)
    assert_within_bounds((maps * np.float32(1e-9)).astype(np.float32), masks, most=2e-4)
    near_one = (1 - maps * np.float32(1e-4)).astype(np.float32)
    assert_within_bounds(near_one, masks, most=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_maps_and_masks_are_within_the_bounds(data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=3, max_dims=3, max_side=6))
    values = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.5, 1.0, 2.0**-24]))
    maps = data.draw(arrays.arrays(np.float32, shape, elements=values))
    masks = data.draw(arrays.arrays(np.bool_, shape))
    if masks.all() or not masks.any():
        found = histogram(maps, masks).metrics()
        assert all(np.isnan(value) for value in found.values())
    else:
        assert_within_bounds(maps, masks, most=1)


def test_the_bound_holds_when_a_bin_mixes_values() -> None:
    """Neighbouring floats share a bin, where any order is possible."""
    rng = np.random.default_rng(5)
    steps = rng.integers(0, 200, (4, 16, 16)).astype(np.float32)
    maps = (np.float32(0.3) + steps * np.float32(2.0**-25)).astype(np.float32)
    masks = rng.random(maps.shape) < 0.2
    found, exact = histogram(maps, masks).metrics(), oracle.pixel_metrics(maps, masks)
    assert 1e-3 < found["pixel_auroc_error"] <= 0.5
    for name in PIXEL_METRICS:
        assert abs(found[name] - exact[name]) <= found[f"{name}_error"]


def test_a_perfect_map_scores_one() -> None:
    _, masks = oracle.maps_and_masks(6, contrast=1, num_images=4)
    found = histogram(masks.astype(np.float32), masks).metrics()
    assert [found[name] for name in PIXEL_METRICS] == pytest.approx([1, 1, 1, 1])


def test_every_region_counts_the_same_in_aupro_whatever_its_size() -> None:
    """One of two regions found without a false alarm is an overlap of one half."""
    mask = np.zeros((40, 40), dtype=bool)
    mask[2:22, 2:22] = True
    mask[30:32, 30:32] = True
    anomaly_map = np.full(mask.shape, 0.1, dtype=np.float32)
    anomaly_map[30:32, 30:32] = 0.9
    found = PixelHistogram()
    found.add(anomaly_map, mask)
    assert found.num_regions == 2
    # From (0, 0.5) in a line to (1, 1), up to 0.3.
    assert found.metrics()["pixel_aupro"] == pytest.approx(0.575)


def test_regions_that_touch_at_a_corner_are_one() -> None:
    found = PixelHistogram()
    found.add(np.zeros((4, 4), dtype=np.float32), np.eye(4, dtype=bool))
    assert found.num_regions == 1


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 5))
def test_merging_parts_in_any_order_is_the_whole(order: list[int], cut: int) -> None:
    maps, masks = oracle.maps_and_masks(7, contrast=6, num_images=6, size=32)
    whole = histogram(maps, masks)
    shuffled = [histogram(maps[i : i + 1], masks[i : i + 1]) for i in order]
    left = reduce(merged, shuffled[:cut], PixelHistogram())
    right = reduce(merged, shuffled[cut:], PixelHistogram())
    both = merged(right, left)
    assert (both.num_images, both.num_regions) == (whole.num_images, whole.num_regions)
    expected = whole.to_row()
    for name in expected.column_names:
        if name != "overlap":
            assert both.to_row()[name] == expected[name], name
    assert both.metrics() == pytest.approx(whole.metrics(), abs=1e-12)


def merged(one: PixelHistogram, other: PixelHistogram) -> PixelHistogram:
    one.merge(other)
    return one


def test_ties_stay_ties_in_a_merge_unless_the_parts_differ() -> None:
    mask = np.array([[True, False]])
    one, same, other = (PixelHistogram() for _ in range(3))
    value, next_value = np.float32(0.3), np.nextafter(np.float32(0.3), np.float32(1))
    assert bins_of(np.array([value])) == bins_of(np.array([next_value]))
    one.add(np.full((1, 2), value), mask)
    same.add(np.full((1, 2), value), mask)
    other.add(np.full((1, 2), next_value), mask)
    one.merge(same)
    assert one.metrics()["pixel_auroc_error"] == 0
    one.merge(other)
    assert one.metrics()["pixel_auroc_error"] == 0.5
    same.merge(one)
    assert same.metrics()["pixel_auroc_error"] == 0.5


def test_an_empty_histogram_merges_and_has_no_metrics() -> None:
    empty = PixelHistogram()
    empty.merge(PixelHistogram())
    assert all(np.isnan(value) for value in empty.metrics().values())
    assert set(empty.metrics()) == {*PIXEL_METRICS, *(f"{name}_error" for name in PIXEL_METRICS)}


@pytest.mark.parametrize("empty_or_full", [False, True])
def test_only_normal_or_only_defective_pixels_have_no_metrics(empty_or_full: bool) -> None:
    found = PixelHistogram()
    found.add(np.full((8, 8), 0.5, dtype=np.float32), np.full((8, 8), empty_or_full))
    assert all(np.isnan(value) for value in found.metrics().values())


@pytest.mark.parametrize(
    ("anomaly_map", "mask", "words"),
    [
        (np.zeros((4, 4)), np.zeros((4, 5), dtype=bool), "shape"),
        (np.zeros(16), np.zeros(16, dtype=bool), "shape"),
        (np.full((4, 4), np.nan), np.zeros((4, 4), dtype=bool), r"not in \[0, 1\]"),
        (np.full((4, 4), 1.5), np.zeros((4, 4), dtype=bool), r"not in \[0, 1\]"),
        (np.full((4, 4), -0.5), np.zeros((4, 4), dtype=bool), r"not in \[0, 1\]"),
    ],
)
def test_what_is_no_map_is_refused(anomaly_map: np.ndarray, mask: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PixelHistogram().add(anomaly_map.astype(np.float32), mask)


def test_rounding_of_a_filter_beyond_one_is_one() -> None:
    found = PixelHistogram()
    found.add(np.array([[1 + 2e-7, 1, 0]], dtype=np.float32), np.array([[True, False, False]]))
    assert found.metrics()["pixel_auroc"] == 0.75


@settings(deadline=None)
@given(arrays.arrays(np.float32, 50, elements=st.floats(0, 1, width=32)))
def test_bins_rise_with_the_value(values: np.ndarray) -> None:
    ends = np.array([0, 1e-45, 2.0**-126, 0.5 - 2.0**-25, 0.5, 0.5 + 2.0**-24, 1 - 2.0**-24, 1])
    ordered = np.sort(np.concatenate([values, ends.astype(np.float32), [np.float32(-0.0)]]))
    bins = bins_of(ordered.astype(np.float32))
    assert (np.diff(bins) >= 0).all()
    assert (bins[0], bins[-1]) == (0, NUM_BINS - 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("value", [1, 255])
def test_masks_of_numbers_select_pixels_as_booleans_do(dtype: type, value: int) -> None:
    maps, masks = oracle.maps_and_masks(3, contrast=3)
    assert (
        histogram(maps, masks.astype(dtype) * value).metrics() == histogram(maps, masks).metrics()
    )
    with pytest.raises(ValueError, match="other values than 0 and 1"):
        PixelHistogram().add(maps[0], np.full(masks[0].shape, 0.5))


def logits_and_masks(contrast: float, offset: float) -> tuple[oracle.Maps, oracle.Masks]:
    """Logits of that standard deviation and mean, higher on the defects."""
    rng = np.random.default_rng(8)
    _, masks = oracle.maps_and_masks(8, contrast=1)
    noise = oracle.blurred_noise(rng, masks.shape, 8)
    return (contrast * (noise + masks) + offset).astype(np.float32), masks


@pytest.mark.parametrize(
    ("contrast", "offset"), [(1, 0), (1, -6), (5, 0), (20, 0), (8, 40), (8, -90), (0.1, 0)]
)
def test_logits_are_exact_to_one_in_ten_thousand(contrast: float, offset: float) -> None:
    assert_within_bounds(*logits_and_masks(contrast, offset), most=1e-4, logits=True)


def test_logits_almost_without_contrast_or_out_of_range_have_bounds_that_hold() -> None:
    assert_within_bounds(*logits_and_masks(1e-3, -5), most=0.05, logits=True)
    assert_within_bounds(*logits_and_masks(1e-3, 0), most=1e-3, logits=True)
    assert_within_bounds(*logits_and_masks(40, 100), most=1e-3, logits=True)


def test_logits_tell_apart_what_probabilities_round_to_one() -> None:
    logits, masks = logits_and_masks(4, 40)
    as_logits = histogram(logits, masks, logits=True).metrics()
    as_probabilities = histogram(expit(logits), masks).metrics()
    assert as_probabilities["pixel_auroc"] == 0.5
    assert as_logits["pixel_auroc"] > 0.7


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_logits_and_masks_are_within_the_bounds(data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6))
    values = st.one_of(st.floats(-300, 300, width=32), st.sampled_from([0.0, -0.0, 128.0, 129.0]))
    maps = data.draw(arrays.arrays(np.float32, shape, elements=values))
    masks = data.draw(arrays.arrays(np.bool_, shape))
    masks[0, 0], masks[-1, -1] = True, False
    assert_within_bounds(maps, masks, most=1, logits=True)


@settings(deadline=None)
@given(arrays.arrays(np.float32, 50, elements=st.floats(-200, 200, width=32)))
def test_bins_of_logits_rise_with_the_value(values: np.ndarray) -> None:
    ends = np.array([-1e38, -512, -128, -1e-45, -0.0, 0, 1e-45, 127.9999, 128, 512, 1e38])
    ordered = np.sort(np.concatenate([values, ends.astype(np.float32)]))
    bins = logit_bins_of(ordered)
    assert (np.diff(bins) >= 0).all()
    assert (bins[0], bins[-1]) == (0, NUM_LOGIT_BINS - 1)


def test_histograms_of_logits_refuse_what_is_none() -> None:
    with pytest.raises(ValueError, match="not finite"):
        PixelHistogram(logits=True).add(np.full((2, 2), np.inf, np.float32), np.eye(2))
    with pytest.raises(ValueError, match="do not merge"):
        PixelHistogram(logits=True).merge(PixelHistogram())
