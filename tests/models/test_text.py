"""The sentences as one tree: against open_clip's text tower run sentence by sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models.text import NUM_NORMAL, encode_text, sentence_tree, sentences
from tests import golden

from .predictions import tokenizer

LENGTH = 5
NAMES = [
    "nut",
    "damaged",  # a state as a name: some sentences repeat its words
    "printed circuit board without flaw",
    "very long name of a hand-made wooden toy with many moving parts " * 6,  # fills the context
    "<end_of_text>",  # ends before the sentence does
]


@pytest.fixture(scope="module")
def clip(golden_files: Mapping[str, str]) -> Any:
    return golden.load(golden_files).clip


def prompts(batch: int, depth: int = 4) -> Tensor:
    return torch.randn(batch, depth, LENGTH, 64, generator=torch.Generator().manual_seed(0))


def in_full(clip: Any, category: str, prompts: Tensor) -> Tensor:
    """[2, E] as the released code runs it: 48 sentences of 77 tokens through every block."""
    ids = tokenizer()(sentences(category), 77)
    x = clip.token_embedding(ids) + clip.positional_embedding
    for j, block in enumerate(clip.transformer.resblocks):
        if 1 <= j < len(prompts):
            x = torch.cat([x[:, :1], prompts[j].expand(48, -1, -1), x[:, 1 + LENGTH :]], 1)
        x = block(x, attn_mask=clip.attn_mask)
    at_end = clip.ln_final(x)[torch.arange(48), ids.argmax(-1)] @ clip.text_projection
    features = F.normalize(at_end, dim=-1)
    means = torch.stack([features[:NUM_NORMAL].mean(0), features[NUM_NORMAL:].mean(0)])
    return F.normalize(means, dim=-1)


@pytest.mark.parametrize("name", NAMES[:4])
def test_the_tree_gives_what_the_sentences_give(clip: Any, name: str) -> None:
    with torch.no_grad():
        expected = in_full(clip, name, prompts(1)[0])
        ours = encode_text(clip, [name], prompts(1))[0]
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_a_name_that_holds_the_end_of_text_ends_there(clip: Any) -> None:
    with torch.no_grad():
        ours = encode_text(clip, NAMES[4:], None)[0]
        expected = in_full(clip, NAMES[4], torch.empty(1, LENGTH, 64))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_names_of_all_lengths_share_a_batch(clip: Any) -> None:
    names = [NAMES[i] for i in (3, 0, 2, 0, 1)]
    with torch.no_grad():
        together = encode_text(clip, names, prompts(5))
        for i, name in enumerate(names):
            alone = encode_text(clip, [name], prompts(5)[i : i + 1])
            torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-5)


def test_gradients_reach_the_prompts_after_an_inference_with_the_same_names(clip: Any) -> None:
    with torch.inference_mode():
        encode_text(clip, ["gasket"], prompts(1))
    given = prompts(1).requires_grad_()
    encode_text(clip, ["gasket"], given).sum().backward()
    assert given.grad is not None
    assert given.grad[:, 1:].abs().amax(dim=(0, 2, 3)).min() > 0
    assert not given.grad[:, 0].any()


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_tree_holds_every_sentence_and_repeats_no_beginning(name: str) -> None:
    ids = tokenizer()(sentences(name), 77)
    tree = sentence_tree(name, 77)
    for end, row in enumerate(ids):
        path = tree.visible[end].nonzero().squeeze(1)
        path = path[tree.positions[path].argsort()]
        assert tree.ids[path].tolist() == row[: int(row.argmax()) + 1].tolist()
    inner = tree.visible[48:, 48:]
    assert len(torch.unique(inner, dim=0)) == len(inner)


def test_a_tree_has_half_of_the_tokens_of_the_padded_sentences() -> None:
    longest = tokenizer()(sentences("hazelnut"), 77).argmax(dim=-1).max()
    padded = 48 * int(longest - LENGTH)
    assert (sentence_tree("hazelnut", 77).positions > LENGTH).sum() < padded / 2
