"""Patch tokens, made ready to be compared."""

from __future__ import annotations

import pytest
import torch

from pipeline.references import normalise


def raw(batch: int = 3, layers: int = 2, patches: int = 9, width: int = 8) -> list[torch.Tensor]:
    """Tokens as blocks of a tower give them: far from zero mean and from unit size."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(layers, batch, patches, width, generator=generator)
    return list(5 + 3 * tokens)


def test_each_image_and_layer_is_standardised_as_a_whole_then_each_patch_has_unit_length() -> None:
    tapped = raw()
    block = tapped[1][2].double()
    centred = (block - block.mean()) / (block.var(unbiased=False) + 1e-5).sqrt()
    expected = centred / centred.norm(dim=1, keepdim=True)
    found = normalise(tapped)
    assert found.shape == (3, 2, 9, 8)
    torch.testing.assert_close(found[2, 1].double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_tokens_of_any_floating_type_become_float32(dtype: torch.dtype) -> None:
    tapped = [each.to(dtype) for each in raw()]
    found = normalise(tapped)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, normalise([each.float() for each in tapped]))


def test_an_image_does_not_depend_on_its_batch() -> None:
    tapped = raw()
    assert torch.equal(normalise([each[1:2] for each in tapped])[0], normalise(tapped)[1])


def test_a_brighter_copy_of_all_tokens_is_the_same() -> None:
    """Of siblings, the photograph's overall strength is what differs most and means least."""
    tapped = raw()
    brighter = normalise([3 * each + 2 for each in tapped])
    torch.testing.assert_close(brighter, normalise(tapped), rtol=0, atol=1e-5)


def test_a_constant_image_has_finite_tokens() -> None:
    assert normalise([torch.full((1, 9, 8), 2.5)]).isfinite().all()
