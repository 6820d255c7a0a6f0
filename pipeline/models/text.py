"""The prompted text tower: class names → one "normal" and one "abnormal" vector per image.

The sentences are the released code's (AdaCLIP, supplementary, after WinCLIP's states). With
prompts the text features depend on the image, so they can't be cached per class, but most of the
released code's work can be left out without changing a value:

* attention is causal, so nothing after the end-of-text token matters, and the start token and
  the prompts (positions 0..M) are the same for every sentence of an image: they are computed once;
* block 0 runs without prompts, so it is computed once per class name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import SimpleTokenizer
from torch import Tensor

from .clip import run_block

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ABNORMAL_STATES = (
    "damaged {}",
    "broken {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
)
TEMPLATES = (
    "a bad photo of a {}.",
    "a low resolution photo of the {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
)
NUM_NORMAL = len(NORMAL_STATES) * len(TEMPLATES)


def sentences(category: str) -> list[str]:
    """The 28 normal and then 20 abnormal sentences of a class name (hyphens become spaces)."""
    name = category.replace("-", " ")
    states = [state.format(name) for state in NORMAL_STATES + ABNORMAL_STATES]
    return [template.format(state) for state in states for template in TEMPLATES]


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


@lru_cache(maxsize=4096)
def tokenize(category: str, context_length: int) -> Tensor:
    """Token ids [S, L] of a class name's sentences, cut after the longest one's end-of-text."""
    ids: Tensor = _tokenizer()(sentences(category), context_length)
    return ids[:, : int(ids.argmax(dim=-1).max()) + 1]


def encode_text(clip: Any, categories: Sequence[str], prompts: Tensor | None) -> Tensor:
    """Text features of a batch of images.

    Args:
        clip: the open_clip model.
        categories: B class names; they may differ within the batch.
        prompts: [B, J, M, D] textual prompts. Those of block j ≥ 1 overwrite the tokens at
            positions 1..M before that block; entry 0 exists in the released weights and is never
            used. None runs plain CLIP, once per class name.

    Returns:
        float32 [B, 2, E]: normal and abnormal vector, each of unit length.

    Raises:
        ValueError: the prompts are long enough to overwrite a sentence's end-of-text token.
    """
    device = clip.token_embedding.weight.device
    names = list(dict.fromkeys(categories))
    index = torch.tensor([names.index(c) for c in categories], device=device)
    ids = _pad([tokenize(name, clip.context_length) for name in names])
    ends = ids.argmax(dim=-1)  # the end-of-text token has the largest id
    if prompts is not None and prompts.shape[1] == 1:
        prompts = None  # the one prompted block is block 0, whose textual prompts are never used
    if prompts is not None and prompts.shape[2] >= ends.min():
        raise ValueError(
            f"prompt_length={prompts.shape[2]} overwrites the end of a sentence; "
            f"use at most {int(ends.min()) - 1}"
        )
    ids, ends = ids.to(device), ends.to(device)
    tokens = clip.token_embedding(ids) + clip.positional_embedding[: ids.shape[-1]]
    blocks = clip.transformer.resblocks
    tokens = run_block(blocks[0], tokens.flatten(0, 1), mask=_causal(tokens, 0))
    tokens = tokens.unflatten(0, ids.shape[:2])  # [names, S, L, D]
    if prompts is None:
        features = _plain(clip, tokens, ends)[index]
    else:
        features = _prompted(clip, tokens[index], ends[index], prompts)
    normal, abnormal = features.split([NUM_NORMAL, features.shape[1] - NUM_NORMAL], dim=1)
    means = torch.stack([normal.mean(dim=1), abnormal.mean(dim=1)], dim=1)
    return F.normalize(means, dim=-1)


def _plain(clip: Any, tokens: Tensor, ends: Tensor) -> Tensor:
    """Blocks 1.. without prompts: [n, S, L, D] → normalised sentence features [n, S, E]."""
    shape, tokens = tokens.shape[:2], tokens.flatten(0, 1)
    mask = _causal(tokens, 0)
    for block in clip.transformer.resblocks[1:]:
        tokens = run_block(block, tokens, mask=mask)
    return _sentence_features(clip, tokens.unflatten(0, shape), ends)


def _prompted(clip: Any, tokens: Tensor, ends: Tensor, prompts: Tensor) -> Tensor:
    """Blocks 1.. with prompts: the shared prefix once an image, then the rest of each sentence."""
    batch, num_sentences = tokens.shape[:2]
    depth, length = prompts.shape[1:3]
    prefix = tokens[:, 0, : 1 + length]  # start token and prompts, equal in all sentences
    rest = tokens[:, :, 1 + length :].flatten(0, 1)
    prefix_mask, rest_mask = _causal(prefix, 0), _causal(rest, 1 + length)
    for j, block in enumerate(clip.transformer.resblocks[1:], start=1):
        if j < depth:
            prefix = torch.cat([prefix[:, :1], prompts[:, j]], dim=1)
        shared = prefix.repeat_interleave(num_sentences, dim=0)
        rest = run_block(block, rest, prefix=shared, mask=rest_mask)
        prefix = run_block(block, prefix, mask=prefix_mask)
    return _sentence_features(clip, rest.unflatten(0, (batch, num_sentences)), ends - 1 - length)


def _sentence_features(clip: Any, tokens: Tensor, ends: Tensor) -> Tensor:
    """[n, S, L, D] → unit-length float32 features of the end-of-text tokens [n, S, E]."""
    at_end = tokens.gather(2, ends[..., None, None].expand(-1, -1, 1, tokens.shape[-1])).squeeze(2)
    return F.normalize((clip.ln_final(at_end) @ clip.text_projection).float(), dim=-1)


def _causal(tokens: Tensor, prefix: int) -> Tensor:
    """Additive mask [L, prefix + L]: a token sees the prefix, itself and what came before."""
    length = tokens.shape[-2]
    mask = torch.full((length, prefix + length), float("-inf"), device=tokens.device)
    return mask.triu(prefix + 1).to(tokens.dtype)


def _pad(ids: list[Tensor]) -> Tensor:
    """Stack token ids of several class names [n, S, L], padded on the right."""
    longest = max(x.shape[1] for x in ids)
    return torch.stack([F.pad(x, (0, longest - x.shape[1])) for x in ids])
