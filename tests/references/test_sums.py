"""Sums of patch tokens: what they say, and that they add up in any way and order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.references import Sums
from pipeline.references.sums import each_of, pack, sum_up, unpack

from .siblings import LAYERS, PATCHES, WIDTH, Line, shuffled


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    """Twelve images."""
    return Line().tokens(range(12))


def assert_same(found: Sums, expected: Sums, rtol: float = 1e-12) -> None:
    assert (found.num_images, found.num_patches) == (expected.num_images, expected.num_patches)
    for one, other in ((found.first, expected.first), (found.second, expected.second)):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol * float(other.abs().max()))


def test_moments_are_those_of_all_patches(tokens: Tensor) -> None:
    sums = Sums.of(tokens)
    assert (sums.num_images, sums.num_patches) == (12, 12 * PATCHES)
    mean, covariance = sums.moments()
    for layer in range(LAYERS):
        patches = tokens[:, layer].reshape(-1, WIDTH).double().numpy()
        np.testing.assert_allclose(mean[layer], patches.mean(axis=0), rtol=1e-12)
        expected = np.cov(patches, rowvar=False, bias=True)
        np.testing.assert_allclose(covariance[layer], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("cuts", [(), (1,), (6,), (1, 2, 3), (5, 6, 11), range(1, 12)])
def test_parts_add_up_to_the_whole_however_it_is_cut(tokens: Tensor, cuts: tuple[int, ...]) -> None:
    first, *others = [Sums.of(part) for part in torch.tensor_split(tokens, list(cuts))]
    for each in others:
        first += each
    assert_same(first, Sums.of(tokens))


def test_the_order_of_images_does_not_matter(tokens: Tensor) -> None:
    assert_same(Sums.of(tokens[shuffled(12)]), Sums.of(tokens))


def test_subtracting_images_is_never_having_had_them(tokens: Tensor) -> None:
    without = Sums.of(tokens) - Sums.of(tokens[4:7])
    assert_same(without, Sums.of(torch.cat([tokens[:4], tokens[7:]])), rtol=1e-11)


def test_chosen_images_are_summed_up_one_by_one(tokens: Tensor) -> None:
    chosen = torch.tensor([7, 2, 5])
    assert_same(sum_up(each_of(tokens), chosen), Sums.of(tokens[chosen]))
    assert_same(sum_up(each_of(tokens), chosen[:1]), Sums.of(tokens[7:8]))


def test_sums_follow_from_their_moments(tokens: Tensor) -> None:
    sums = Sums.of(tokens)
    again = Sums.of_moments(sums.num_images, sums.num_patches, *sums.moments())
    assert_same(again, sums)


def test_float32_tokens_are_summed_in_float64() -> None:
    """A million patches that differ in the seventh digit have a spread still."""
    tokens = 1 + 1e-6 * torch.randn(100, 1, 1_000, 1, generator=torch.Generator().manual_seed(0))
    _, covariance = Sums.of(tokens).moments()
    assert covariance.dtype == torch.float64
    assert float(covariance) == pytest.approx(float(tokens.double().var(unbiased=False)), rel=1e-3)


def test_upper_triangles_hold_a_symmetric_matrix() -> None:
    matrix = Sums.of(Line().tokens(range(2))).second
    packed = pack(matrix)
    assert packed.shape == (LAYERS, WIDTH * (WIDTH + 1) // 2)
    assert torch.equal(unpack(packed, WIDTH), (matrix.triu() + matrix.triu(1).mT))
    torch.testing.assert_close(unpack(packed, WIDTH), matrix)
