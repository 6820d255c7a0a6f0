"""Running the backbone block by block: what may be left out, and what may be overwritten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from pipeline.models.clip import run_block
from tests import golden


@pytest.fixture(scope="module")
def block(golden_files: Mapping[str, str]) -> Any:
    """An image block of the golden model, as open_clip built it."""
    return golden.load(golden_files).clip.visual.transformer.resblocks[3]


def tokens() -> torch.Tensor:
    return torch.randn(2, 9, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("with_gradient", [False, True])
def test_a_block_is_open_clips_own(block: Any, with_gradient: bool) -> None:
    with torch.set_grad_enabled(with_gradient):
        ours = run_block(block, tokens().requires_grad_(with_gradient))
        torch.testing.assert_close(ours, block(tokens()), rtol=0, atol=1e-5)


def test_a_block_leaves_its_input_alone(block: Any) -> None:
    """The patch embedding enters both passes, and tapped layers are read at the end."""
    given = tokens()
    with torch.inference_mode():
        run_block(block, given)
        run_block(block, given, queries=slice(1))
    assert torch.equal(given, tokens())


def test_updating_some_tokens_gives_them_what_updating_all_does(block: Any) -> None:
    mask = torch.full((9, 9), float("-inf")).triu(1)
    some = slice(2, 5)
    with torch.inference_mode():
        whole = run_block(block, tokens(), mask=mask)[:, some]
        part = run_block(block, tokens(), mask=mask[some], queries=some)
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-5)


def test_gradients_do_not_feel_what_is_overwritten(block: Any) -> None:
    ours, plain = tokens().requires_grad_(), tokens().requires_grad_()
    run_block(block, ours).square().sum().backward()
    block(plain).square().sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-4, atol=1e-4)


def test_under_autocast_the_residual_stream_stays_fp32(block: Any) -> None:
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert run_block(block, tokens()).dtype == torch.float32


def test_a_block_compiles_as_one_graph(block: Any) -> None:
    compiled = torch.compile(run_block, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(block, tokens()), run_block(block, tokens()))
