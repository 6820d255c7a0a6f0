"""Good images judged by the others, and a lone image by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.references import Gaussian, Sums, left_out_distances

from .siblings import PATCHES, SIDE, Line


def without(tokens: Tensor, i: int) -> Tensor:
    """The distances [N] of image i from a fit that never had it."""
    others = torch.cat([tokens[:i], tokens[i + 1 :]])
    return Gaussian.fit(Sums.of(others)).distances(tokens[i : i + 1])[0]


def test_each_image_is_judged_as_if_it_were_not_among_them() -> None:
    tokens = Line().tokens(range(6))
    found = left_out_distances(tokens, Sums.of(tokens))
    expected = torch.stack([without(tokens, i) for i in range(6)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_images_beyond_those_that_are_judged_count_as_well() -> None:
    tokens = Line().tokens(range(8))
    found = left_out_distances(tokens[:3], Sums.of(tokens))
    expected = torch.stack([without(tokens, i) for i in range(3)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_two_images_are_judged_by_each_other() -> None:
    tokens = Line().tokens(range(2))
    found = left_out_distances(tokens, Sums.of(tokens))
    torch.testing.assert_close(found[0], without(tokens, 0), rtol=1e-5, atol=0)


def test_a_lone_image_is_judged_by_the_rest_of_itself() -> None:
    """Its own patches are not in the fit that judges them, or nothing could look odd in it."""
    tokens = Line().tokens(range(1))
    [found] = left_out_distances(tokens, Sums.of(tokens))
    assert found.shape == (PATCHES,)
    assert found.isfinite().all()
    [fitted] = Gaussian.fit(Sums.of(tokens)).distances(tokens)
    assert found.mean() > 1.05 * fitted.mean()


def test_a_stripe_of_a_lone_image_does_not_judge_itself() -> None:
    """All patches of one stripe become something else: none of them says that this is normal."""
    tokens = Line().tokens(range(1)).view(1, 3, SIDE, SIDE, 32).clone()
    tokens[..., 0, :] = tokens[0, 0, 0, 0]  # the first column: all the same, all odd
    odd = tokens.flatten(2, 3)
    [found] = left_out_distances(odd, Sums.of(odd))
    [fitted] = Gaussian.fit(Sums.of(odd)).distances(odd)
    own, other = found.view(SIDE, SIDE)[:, 0], fitted.view(SIDE, SIDE)[:, 0]
    assert (own > 1.3 * other).all()
