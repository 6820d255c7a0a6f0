"""What is normal in a bucket without labels: contaminated samples of known truth, and looks."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from pipeline.references import Gaussian, Screen, Sums
from pipeline.references.robust import MAX_LOOKS, assign, find_looks, image_distance

from .siblings import Line, shuffled

NUM_IMAGES = 60


@cache
def sample(seed: int, share: float, damage: str) -> tuple[Tensor, Tensor]:
    """Tokens of good and damaged images in any order, and which are good."""
    damaged = round(share * NUM_IMAGES)
    line, good = Line(seed), NUM_IMAGES - damaged
    tokens = [line.tokens(range(good))]
    if damaged:
        tokens.append(line.tokens(range(good, NUM_IMAGES), damage))
    order = shuffled(NUM_IMAGES, seed)
    return torch.cat(tokens)[order], order < good


def passes(looks: list[Screen], tokens: Tensor) -> Tensor:
    """Which images count as normal [M]."""
    return assign(looks, tokens)[1]


@cache
def looks_of(seed: int, share: float, damage: str) -> list[Screen]:
    return find_looks(sample(seed, share, damage)[0])


@pytest.mark.parametrize(
    ("share", "damage"), [(0.0, ""), (0.05, "own"), (0.2, "own"), (0.4, "own"), (0.1, "same")]
)
def test_damaged_images_are_left_out_and_good_ones_are_not(share: float, damage: str) -> None:
    """Also where one fault repeats in every tenth image: that does not make it normal."""
    shares = []
    for seed in range(4):
        tokens, good = sample(seed, share, damage)
        passed = passes(looks_of(seed, share, damage), tokens)
        assert not passed[~good].any()
        shares.append(float(passed[good].float().mean()))
    assert min(shares) > 0.6
    assert sum(shares) / len(shares) > 0.8


def test_what_counts_as_normal_does_not_depend_on_the_order_of_the_images() -> None:
    tokens, _ = sample(3, 0.2, "own")
    order = shuffled(NUM_IMAGES, 9)
    one, other = find_looks(tokens), find_looks(tokens[order])
    assert torch.equal(passes(other, tokens), passes(one, tokens))
    assert other[0].limit == pytest.approx(one[0].limit, rel=1e-5)


def test_images_beyond_the_sample_are_told_apart_as_well() -> None:
    """The screen is made of the sample once, and the rest of the bucket goes through it."""
    tokens, _ = sample(0, 0.2, "own")
    made, line = find_looks(tokens), Line(0)
    assert passes(made, line.tokens(range(100, 160))).float().mean() > 0.7
    assert not passes(made, line.tokens(range(200, 220), "own")).any()


def test_good_images_of_the_sample_have_no_advantage() -> None:
    """The fit has seen half of them: they pass about as often as images that it never saw."""
    passed, unseen = [], []
    for seed in range(6):
        line = Line(seed)
        tokens = line.tokens(range(NUM_IMAGES))
        made = find_looks(tokens)
        passed.append(passes(made, tokens).float().mean())
        unseen.append(passes(made, line.tokens(range(100, 160))).float().mean())
    assert abs(float(torch.stack(passed).mean() - torch.stack(unseen).mean())) < 0.05


def test_eight_images_are_enough() -> None:
    tokens = torch.cat([Line().tokens(range(7)), Line().tokens(range(7, 8), "own")])
    passed = passes(find_looks(tokens), tokens)
    assert passed[:7].sum() >= 5
    assert not passed[7]


def test_an_image_is_as_far_as_its_highest_patches() -> None:
    """The mean of the highest 5 % of patches: one in twenty, at least one."""
    distances = torch.ones(2, 40)
    distances[0, 3], distances[0, 30] = 9.0, 5.0
    assert image_distance(distances).tolist() == pytest.approx([math.log(7), 0.0])
    assert float(image_distance(torch.tensor([[1.0, 4.0, 2.0]]))) == pytest.approx(math.log(4))


def test_how_far_an_image_is_beyond_the_limit_is_told() -> None:
    tokens = Line().tokens(range(4))
    gaussian = Gaussian.fit(Sums.of(tokens))
    limit = float(image_distance(gaussian.distances(tokens[:1])))
    assert float(Screen(gaussian, limit).excess(tokens[:1])) == pytest.approx(0, abs=1e-6)
    assert float(Screen(gaussian, limit - 0.5).excess(tokens[:1])) == pytest.approx(0.5)


def test_blank_images_can_not_be_screened() -> None:
    blank = torch.zeros(10, 3, 16, 8)
    blank[..., 0] = 1
    with pytest.raises(ValueError, match="are they blank"):
        find_looks(blank)


@pytest.mark.parametrize("count", [2, 12])
def test_blank_images_among_others_are_no_obstacle(count: int) -> None:
    """Frames that a camera took of nothing: each patch is the same, and no fit on them is."""
    tokens = torch.cat([Line().tokens(range(48)), Line(9).tokens(range(count))])
    tokens[48:] = tokens[48, :, :1]
    looks = find_looks(tokens)
    assert len(looks) == 1
    assert not passes(looks, tokens[48:]).any()


# --- looks ----------------------------------------------------------------------------------


def mixed(*counts: int) -> tuple[Tensor, Tensor]:
    """Tokens of products that share nothing, so many of each, in any order, and whose they are."""
    tokens = torch.cat(
        [Line(seed=10 + i, noise=0.2).tokens(range(n)) for i, n in enumerate(counts)]
    )
    whose = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    order = shuffled(len(tokens))
    return tokens[order], whose[order]


@pytest.mark.parametrize("counts", [(60,), (40, 20)])
def test_products_of_the_same_name_are_a_look_each(counts: tuple[int, ...]) -> None:
    tokens, whose = mixed(*counts)
    looks, normal = assign(find_looks(tokens), tokens)
    assert looks.unique().tolist() == list(range(len(counts)))
    for look in looks.unique():
        assert len(whose[looks == look].unique()) == 1
    assert normal.float().mean() > 0.6


@pytest.mark.parametrize(("share", "damage"), [(0.1, "same"), (0.2, "own"), (0.4, "own")])
def test_damage_is_no_look_however_much_of_it_there_is(share: float, damage: str) -> None:
    for seed in range(4):
        assert len(looks_of(seed, share, damage)) == 1


def test_a_look_of_few_images_is_damage_until_more_of_them_come() -> None:
    assert len(find_looks(mixed(56, 6)[0])) == 1
    assert len(find_looks(mixed(40, 20)[0])) == 2


def test_looks_have_a_most() -> None:
    """Each takes a fit and a file; images that are all different are none."""
    assert len(find_looks(mixed(*[16] * (MAX_LOOKS + 2))[0])) <= MAX_LOOKS
    alone = torch.cat([Line(seed=20 + i).tokens(range(1)) for i in range(30)])
    assert len(find_looks(alone)) == 1
