"""Distances from one Gaussian of all patches: the documented formula, and what can't be fitted."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.references import Gaussian, Sums

from .siblings import PATCHES, Line, shuffled

EPSILON = 0.001  # of docs/references.md


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    """Ten images."""
    return Line().tokens(range(10))


def by_eigenvectors(tokens: Tensor, judged: Tensor) -> Tensor:
    """[B, N] in float64: √Σ projᵢ² / (λᵢ + ε·Σλ), mean over the layers."""
    found = []
    for layer in range(tokens.shape[1]):
        patches = tokens[:, layer].flatten(0, 1).double()
        values, vectors = torch.linalg.eigh(torch.cov(patches.mT, correction=0))
        projected = (judged[:, layer].double() - patches.mean(dim=0)) @ vectors
        found.append((projected.square() / (values + EPSILON * values.sum())).sum(dim=-1).sqrt())
    return torch.stack(found).mean(dim=0)


@pytest.mark.parametrize(("width", "images"), [(32, 10), (32, 1), (256, 4), (256, 1)])
def test_distances_are_those_of_the_eigenvectors(width: int, images: int) -> None:
    """With 256 wide tokens of one image, most eigenvalues are zero but for rounding."""
    generator = torch.Generator().manual_seed(width + images)
    stretch = torch.logspace(0, -3, width)
    patches = torch.randn(images + 3, 3, PATCHES, width, generator=generator) * stretch + 0.1
    tokens = F.normalize(patches, dim=-1)
    distances = Gaussian.fit(Sums.of(tokens[:images])).distances(tokens)
    assert distances.dtype == torch.float32
    expected = by_eigenvectors(tokens[:images], tokens)
    torch.testing.assert_close(distances.double(), expected, rtol=1e-4, atol=0)


def test_layers_count_the_same(tokens: Tensor) -> None:
    both = Gaussian.fit(Sums.of(tokens[:, :2])).distances(tokens[:, :2])
    each = [Gaussian.fit(Sums.of(one)).distances(one) for one in tokens[:, :2].split(1, dim=1)]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)


def test_distances_do_not_depend_on_the_cut_and_order_of_the_sums(tokens: Tensor) -> None:
    whole = Gaussian.fit(Sums.of(tokens)).distances(tokens)
    parts = [Sums.of(part) for part in tokens[shuffled(10)].split(3)]
    merged = Gaussian.fit(parts[3] + (parts[0] + (parts[2] + parts[1]))).distances(tokens)
    torch.testing.assert_close(merged, whole, rtol=1e-6, atol=0)


def test_distances_without_an_image_are_those_that_never_had_it(tokens: Tensor) -> None:
    without = Gaussian.fit(Sums.of(tokens) - Sums.of(tokens[4:5])).distances(tokens)
    never = Gaussian.fit(Sums.of(torch.cat([tokens[:4], tokens[5:]]))).distances(tokens)
    torch.testing.assert_close(without, never, rtol=1e-5, atol=0)


def test_images_are_judged_one_by_one(tokens: Tensor) -> None:
    gaussian = Gaussian.fit(Sums.of(tokens))
    together = gaussian.distances(tokens)
    assert together.shape == (10, PATCHES)
    alone = torch.cat([gaussian.distances(each) for each in tokens.split(1)])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=0)
    order = shuffled(10)
    torch.testing.assert_close(
        gaussian.distances(tokens[order]), together[order], rtol=1e-5, atol=0
    )


def test_damage_is_farther_than_anything_good() -> None:
    line = Line()
    gaussian = Gaussian.fit(Sums.of(line.tokens(range(30))))
    good = gaussian.distances(line.tokens(range(30, 50)))
    damaged = gaussian.distances(line.tokens(range(50, 60), "own"))
    assert (damaged.amax(dim=1) > 1.1 * good.amax()).all()


def test_the_foreign_distance_is_that_of_tokens_in_any_direction() -> None:
    line = Line().tokens(range(4))
    gaussian = Gaussian.fit(Sums.of(torch.cat([line, -line])))  # their mean is zero
    generator = torch.Generator().manual_seed(0)
    anything = F.normalize(torch.randn(1, 1, 100_000, 32, generator=generator), dim=-1)
    layers = [Gaussian(gaussian.whitening[i : i + 1], gaussian.offset[i : i + 1]) for i in range(3)]
    squares = [each.distances(anything).square().mean() for each in layers]
    expected = torch.stack(squares).sqrt().mean()
    assert gaussian.foreign_distance == pytest.approx(float(expected), rel=0.01)


def test_memory_is_told(tokens: Tensor) -> None:
    assert Gaussian.fit(Sums.of(tokens)).nbytes == 3 * (32 * 32 + 32) * 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tokens_that_are_no_numbers_are_told(tokens: Tensor, value: float) -> None:
    broken = tokens.clone()
    broken[2, 1, 5, 3] = value
    with pytest.raises(ValueError, match="the tokens of a reference image are not finite numbers"):
        Gaussian.fit(Sums.of(broken))


def test_blank_images_are_told() -> None:
    one = F.normalize(torch.ones(32), dim=0)
    for blank in (one.expand(5, 3, PATCHES, 32), one.expand(1, 3, 1, 32)):
        with pytest.raises(ValueError, match="patches of the reference images are the same; are"):
            Gaussian.fit(Sums.of(blank))


def test_one_blank_layer_is_told(tokens: Tensor) -> None:
    tokens = tokens.clone()
    tokens[:, 1] = tokens[0, 1, 0]
    with pytest.raises(ValueError, match="are they blank"):
        Gaussian.fit(Sums.of(tokens))
