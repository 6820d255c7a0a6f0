"""What distances mean: rates that a logit of 0 promises, and how much the siblings are worth."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pipeline.references import Gaussian, Scale, Sums, left_out_distances
from pipeline.references.scale import WEIGHT, Spread

from .siblings import PATCHES, Line

Readings = tuple[Tensor, Tensor, Tensor]
FAR, NEAR = 60.0, 5.0  # distances of what shares nothing: siblings tell much, or nothing


def gumbel(*shape: int, seed: int) -> Tensor:
    """What the highest of many values is like."""
    generator = torch.Generator().manual_seed(seed)
    return -torch.log(-torch.log(torch.rand(shape, generator=generator)))


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def good(images: int, seed: int = 0, alarm: float = 0.0) -> Readings:
    """Distances [M, N], logits of patches [M, N] and logits [M] of good images.

    Args:
        images: M.
        seed: of all that is random.
        alarm: added to AdaCLIP's logits of patches.
    """
    own = 0.1 * gumbel(images, 1, seed=4 * seed)
    distances = torch.exp(1.5 + own + 0.08 * normal(images, PATCHES, seed=4 * seed + 1))
    grids = alarm - 3 + normal(images, PATCHES, seed=4 * seed + 2)
    return distances, grids, gumbel(images, seed=4 * seed + 3) - 2


@pytest.fixture(scope="module")
def scale() -> Scale:
    """Of siblings that tell much."""
    return Scale.measure(*good(500), FAR)


# --- rates ----------------------------------------------------------------------------------


def test_above_a_logit_of_0_is_one_good_image_in_a_hundred() -> None:
    values = gumbel(200_000, seed=1)
    logits = Spread.of(gumbel(200_000, seed=2)).logit(values)
    assert float((logits > 0).float().mean()) == pytest.approx(0.01, rel=0.1)


def test_each_tenfold_rarity_is_a_tenfold_of_the_odds() -> None:
    values = 5 + 3 * gumbel(200_000, seed=1)
    logits = Spread.of(5 + 3 * gumbel(200_000, seed=2)).logit(values)
    for share in (0.1, 0.01, 0.001):
        at = math.log(0.01 / share)
        assert float((logits > at).float().mean()) == pytest.approx(share, rel=0.15)


@pytest.mark.parametrize("foreign", [NEAR, FAR])
def test_about_one_good_image_in_a_hundred_exceeds_one_half(foreign: float) -> None:
    """By its score, by references alone, and anywhere in its map."""
    judged = Scale.measure(*good(500), foreign).judge(*good(20_000, seed=1))
    peaks = judged.logit_grid.amax(dim=1)
    for logits in (peaks, judged.score_logit, judged.reference_logit):
        assert 0.005 < float((logits.sigmoid() > 0.5).float().mean()) < 0.015


def test_the_rate_holds_for_few_references_too() -> None:
    """Less well: a few images say little of how high good ones reach."""
    rates = []
    for seed in range(50):
        made = Scale.measure(*good(8, seed=100 + seed), FAR)
        rates.append((made.judge(*good(200, seed=seed)).score_logit > 0).float().mean())
    assert 0.002 < float(torch.stack(rates).mean()) < 0.06


# --- order ----------------------------------------------------------------------------------


def test_what_is_farther_or_more_suspect_to_adaclip_is_more_abnormal(scale: Scale) -> None:
    distances, grids, logits = good(20, seed=5)
    base = scale.judge(distances, grids, logits)
    farther = scale.judge(1.1 * distances, grids, logits)
    assert (farther.logit_grid > base.logit_grid).all()
    assert (farther.score_logit > base.score_logit).all()
    assert (farther.reference_logit > base.reference_logit).all()
    suspect = scale.judge(distances, grids + 1, logits + 1)
    assert (suspect.logit_grid > base.logit_grid).all()
    assert (suspect.score_logit > base.score_logit).all()
    assert torch.equal(suspect.reference_logit, base.reference_logit)


def test_the_score_weighs_both_by_the_image_weight() -> None:
    """One deviation more of the distance counts as many as the weight says."""
    made = Scale.measure(*good(500), 20.0)
    distances, grids, logits = good(4, seed=5)
    base = made.judge(distances, grids, logits).score_logit
    by_distance = made.judge(distances * math.exp(made.image_distance.std), grids, logits)
    by_logit = made.judge(distances, grids, logits + made.image_logit.std)
    one, other = (each.score_logit - base for each in (by_distance, by_logit))
    ratio = made.image_weight / (1 - made.image_weight)
    torch.testing.assert_close(one / other, torch.full((4,), ratio), rtol=1e-3, atol=0)


def test_images_do_not_depend_on_their_batch(scale: Scale) -> None:
    readings = good(5, seed=6)
    together = scale.judge(*readings)
    for i in range(5):
        alone = scale.judge(*(each[i : i + 1] for each in readings))
        for one, all_of_them in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_of_them[i], rtol=1e-5, atol=1e-5)


# --- weights --------------------------------------------------------------------------------


def of_siblings(shared: float) -> Scale:
    """Measured on twelve images that show more or less of the same."""
    tokens = Line(shared=shared, noise=0.1).tokens(range(12))
    distances = left_out_distances(tokens, total := Sums.of(tokens))
    foreign = Gaussian.fit(total).foreign_distance
    return Scale.measure(distances, *good(12)[1:], foreign)


def test_siblings_that_share_nothing_hardly_count_and_those_that_share_all_do() -> None:
    weights = [of_siblings(shared).image_weight for shared in (0.0, 0.5, 1.0)]
    assert weights == sorted(weights)
    assert weights[0] == pytest.approx(WEIGHT[0])
    assert weights[2] > 0.6


@pytest.mark.parametrize(("foreign", "weight"), [(NEAR, WEIGHT[0]), (FAR, WEIGHT[1])])
def test_the_weight_follows_from_how_near_good_patches_come_to_anything(
    foreign: float, weight: float
) -> None:
    assert Scale.measure(*good(50), foreign).image_weight == pytest.approx(weight)


def test_a_lone_image_is_trusted_as_who_gives_it_does() -> None:
    """It says nothing of what it shares with others, however near its own patches are."""
    for foreign in (NEAR, FAR):
        made = Scale.measure(*good(1), foreign)
        assert made.image_weight == pytest.approx(WEIGHT[1])


def test_adaclip_keeps_more_of_the_map_where_it_raises_no_alarm() -> None:
    silent, loud = (
        Scale.measure(*good(50, alarm=alarm), 20.0).patch_weight for alarm in (-20.0, 5.0)
    )
    assert silent < 0.5 < loud


def test_a_map_never_trusts_siblings_more_than_the_score_does() -> None:
    for foreign in (NEAR, 8.0, 20.0, FAR):
        for alarm in (-10.0, 0.0, 10.0):
            made = Scale.measure(*good(20, alarm=alarm), foreign)
            assert 0 <= made.patch_weight <= made.image_weight


# --- few images, and equal ones -------------------------------------------------------------


def test_the_spread_of_one_value_is_the_typical_one_and_of_many_their_own() -> None:
    values = 3 * normal(10_000, seed=1)
    one = Spread.of(values[:1], prior=0.5)
    assert (one.mean, one.std) == pytest.approx((float(values[0]), 0.5 * math.sqrt(2 / 3)))
    assert Spread.of(values, prior=0.5).std == pytest.approx(float(values.std()), rel=0.01)


@pytest.mark.parametrize("images", [1, 2, 3])
def test_few_images_give_finite_and_ordered_logits(images: int) -> None:
    made = Scale.measure(*good(images), FAR)
    near, far = made.judge(*good(5)), made.judge(10 * good(5)[0], *good(5)[1:])
    for one, other in zip(near, far, strict=True):
        assert one.isfinite().all()
        assert (other > one).all()


def copies(each: Tensor) -> Tensor:
    return each.expand(9, *each.shape[1:])


def constant(each: Tensor) -> Tensor:
    return each.flatten()[0] + 0 * each


@pytest.mark.parametrize("change", [copies, constant])
def test_equal_images_do_not_make_every_other_one_an_extreme(
    change: Callable[[Tensor], Tensor],
) -> None:
    """Nine copies of one image, or images without any difference at all."""
    made = Scale.measure(*(change(each) for each in good(1)), FAR)
    assert made.peak.std >= 0.2
    assert made.score.std >= 0.2
    judged = made.judge(*good(1))
    assert judged.score_logit.isfinite().all()
    assert judged.score_logit.abs().max() < 20


def test_a_distance_of_many_times_the_good_ones_stays_a_number(scale: Scale) -> None:
    judged = scale.judge(1e4 * good(2)[0], *good(2)[1:])
    assert all(each.isfinite().all() for each in judged)
