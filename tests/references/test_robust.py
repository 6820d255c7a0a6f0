"""What is normal in a bucket without labels: contaminated samples of known truth."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pipeline.references import Gaussian, Screen, Sums, screen
from pipeline.references.robust import highest_mean, image_distance

from .siblings import Line, shuffled

NUM_IMAGES = 60


def sample(seed: int, share: float, damage: str) -> tuple[Tensor, Tensor]:
    """Tokens of good and damaged images in any order, and which are good."""
    damaged = round(share * NUM_IMAGES)
    line, good = Line(seed), NUM_IMAGES - damaged
    tokens = [line.tokens(range(good))]
    if damaged:
        tokens.append(line.tokens(range(good, NUM_IMAGES), damage))
    order = shuffled(NUM_IMAGES, seed)
    return torch.cat(tokens)[order], order < good


@pytest.mark.parametrize(
    ("share", "damage"), [(0.0, ""), (0.05, "own"), (0.2, "own"), (0.4, "own"), (0.1, "same")]
)
def test_damaged_images_are_left_out_and_good_ones_are_not(share: float, damage: str) -> None:
    """Also where one fault repeats in every tenth image: that does not make it normal."""
    shares = []
    for seed in range(4):
        tokens, good = sample(seed, share, damage)
        passed = screen(tokens).passes(tokens)
        assert not passed[~good].any()
        shares.append(float(passed[good].float().mean()))
    assert min(shares) > 0.6
    assert sum(shares) / len(shares) > 0.8


def test_what_counts_as_normal_does_not_depend_on_the_order_of_the_images() -> None:
    tokens, _ = sample(3, 0.2, "own")
    order = shuffled(NUM_IMAGES, 9)
    one, other = screen(tokens), screen(tokens[order])
    assert torch.equal(other.passes(tokens), one.passes(tokens))
    assert other.limit == pytest.approx(one.limit, rel=1e-5)


def test_images_beyond_the_sample_are_told_apart_as_well() -> None:
    """The screen is made of the sample once, and the rest of the bucket goes through it."""
    tokens, _ = sample(0, 0.2, "own")
    made, line = screen(tokens), Line(0)
    assert made.passes(line.tokens(range(100, 160))).float().mean() > 0.7
    assert not made.passes(line.tokens(range(200, 220), "own")).any()


def test_good_images_of_the_sample_have_no_advantage() -> None:
    """The fit has seen half of them: they pass about as often as images that it never saw."""
    passed, unseen = [], []
    for seed in range(6):
        line = Line(seed)
        tokens = line.tokens(range(NUM_IMAGES))
        made = screen(tokens)
        passed.append(made.passes(tokens).float().mean())
        unseen.append(made.passes(line.tokens(range(100, 160))).float().mean())
    assert abs(float(torch.stack(passed).mean() - torch.stack(unseen).mean())) < 0.05


def test_eight_images_are_enough() -> None:
    tokens = torch.cat([Line().tokens(range(7)), Line().tokens(range(7, 8), "own")])
    passed = screen(tokens).passes(tokens)
    assert passed[:7].sum() >= 5
    assert not passed[7]


def test_an_image_is_as_far_as_its_highest_patches() -> None:
    """The mean of the highest 5 % of patches: one in twenty, at least one."""
    distances = torch.ones(2, 40)
    distances[0, 3], distances[0, 30] = 9.0, 5.0
    found = image_distance(distances)
    assert found.tolist() == pytest.approx([math.log(7), 0.0])
    assert highest_mean(torch.tensor([[1.0, 4.0, 2.0]])).tolist() == [4.0]


def test_an_image_at_the_limit_passes() -> None:
    tokens = Line().tokens(range(4))
    gaussian = Gaussian.fit(Sums.of(tokens))
    limit = float(image_distance(gaussian.distances(tokens[:1])))
    assert Screen(gaussian, limit).passes(tokens[:1]).all()
    assert not Screen(gaussian, limit - 1e-4).passes(tokens[:1]).any()


def test_blank_images_can_not_be_screened() -> None:
    blank = torch.zeros(10, 3, 16, 8)
    blank[..., 0] = 1
    with pytest.raises(ValueError, match="are they blank"):
        screen(blank)
