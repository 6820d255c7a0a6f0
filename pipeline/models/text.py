"""The prompted text tower: class names → one "normal" and one "abnormal" vector per image.

The sentences are the released code's (AdaCLIP, supplementary, after WinCLIP's states). With
prompts the text features depend on the image, so they can't be cached per class, but most of the
released code's work can be left out without changing a value:

* attention is causal, so nothing after the end-of-text token matters, and tokens with the same
  words before them are equal: the 48 sentences are computed as one tree of words, in which a
  token attends to itself and its ancestors;
* the start token and the prompts (positions 0..M) are the same for every sentence of an image:
  they are the tree's trunk;
* block 0 runs without prompts, so it is computed once per class name;
* only the end-of-text tokens leave the last block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import SimpleTokenizer
from torch import Tensor, nn

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
NUM_SENTENCES = NUM_NORMAL + len(ABNORMAL_STATES) * len(TEMPLATES)


def sentences(category: str) -> list[str]:
    """The 28 normal and then 20 abnormal sentences of a class name (hyphens become spaces)."""
    name = category.replace("-", " ")
    states = [state.format(name) for state in NORMAL_STATES + ABNORMAL_STATES]
    return [template.format(state) for state in states for template in TEMPLATES]


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


@dataclass(frozen=True)
class SentenceTree:
    """The tokens of a class name's S sentences, each token once for all that begin alike.

    The first S nodes are the sentences' end-of-text tokens, the next one is the start token.
    """

    ids: Tensor
    """[V] token ids."""
    positions: Tensor
    """[V] places in the sentence."""
    visible: Tensor
    """bool [V, V], true where the column's node is the row's or one of its ancestors."""


@lru_cache(maxsize=4096)
def sentence_tree(category: str, context_length: int) -> SentenceTree:
    """The tree of a class name's sentences, each cut after its end-of-text token."""
    ids = _tokenizer()(sentences(category), context_length)
    lengths = ids.argmax(dim=-1).tolist()  # the end-of-text token has the largest id
    texts = [tuple(row[:length]) for row, length in zip(ids.tolist(), lengths, strict=True)]
    paths = sorted({text[:n] for text in texts for n in range(1, len(text) + 1)}, key=len)
    node = {path: i for i, path in enumerate(paths)}
    with torch.inference_mode(False):  # a training step may meet the same name
        inner = torch.eye(len(paths), dtype=torch.bool)
        for path, i in node.items():
            if len(path) > 1:
                inner[i] |= inner[node[path[:-1]]]
        # A name that fills the whole context leaves equal sentences; each has an end of its own.
        ends = inner[[node[text] for text in texts]]
        above = torch.cat([torch.eye(len(texts), dtype=torch.bool), ends], dim=1)
        return SentenceTree(
            ids=torch.tensor([int(ids.max())] * len(texts) + [path[-1] for path in paths]),
            positions=torch.tensor(lengths + [len(path) - 1 for path in paths]),
            visible=torch.cat([above, F.pad(inner, (len(texts), 0))]),
        )


@dataclass(frozen=True)
class _Forest:
    """The trees of n class names on the model's device, padded to one size."""

    ids: Tensor
    """[n, V]."""
    positions: Tensor
    """[n, V]."""
    mask: Tensor
    """[n, 1, V, V], additive, for block 0."""
    kept: Tensor
    """[n, 1 + R]: the start token and the nodes behind the prompts, the sentences' ends first."""
    kept_mask: Tensor
    """[n, 1, L, L], additive, for the L = 1 + M + R tokens of the blocks with prompts."""


@lru_cache(maxsize=16)  # a few megabytes each where a batch mixes many class names
def _forest(
    names: tuple[str, ...],
    context_length: int,
    prompt_length: int,
    device: torch.device,
    dtype: torch.dtype,
) -> _Forest:
    trees = [sentence_tree(name, context_length) for name in names]
    shortest = min(int(tree.positions[:NUM_SENTENCES].min()) for tree in trees)
    if prompt_length >= shortest:
        raise ValueError(
            f"prompt_length={prompt_length} overwrites the end of a sentence; "
            f"use at most {shortest - 1}"
        )
    with torch.inference_mode(False):
        behind = [(tree.positions > prompt_length).nonzero().squeeze(1) for tree in trees]
        kept_visible = [
            _behind_trunk(tree.visible[nodes][:, nodes], 1 + prompt_length)
            for tree, nodes in zip(trees, behind, strict=True)
        ]
        return _Forest(
            ids=_pad([tree.ids for tree in trees]).to(device),
            positions=_pad([tree.positions for tree in trees]).to(device),
            mask=_additive([tree.visible for tree in trees], dtype).to(device),
            kept=F.pad(_pad(behind), (1, 0), value=NUM_SENTENCES).to(device),
            kept_mask=_additive(kept_visible, dtype).to(device),
        )


def text_tower(clip: Any) -> Any:
    """The module that holds an open_clip model's text tower: a part of it, or the model itself."""
    return getattr(clip, "text", clip)


def embedding_width(tower: Any) -> int:
    """E, the width of what a text tower gives."""
    if (projection := tower.text_projection) is None:
        return int(tower.token_embedding.embedding_dim)
    return int(
        projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]
    )


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
    if prompts is not None and prompts.shape[1] == 1:
        prompts = None  # the one prompted block is block 0, whose textual prompts are never used
    names = tuple(sorted(set(categories)))
    length = 0 if prompts is None else prompts.shape[2]
    tower = text_tower(clip)
    places = tower.positional_embedding
    forest = _forest(names, tower.context_length, length, places.device, places.dtype)
    tokens = tower.token_embedding(forest.ids) + places[forest.positions]
    tokens = run_block(tower.transformer.resblocks[0], tokens, mask=forest.mask)
    tokens = tokens.gather(1, forest.kept[..., None].expand(-1, -1, tokens.shape[-1]))
    if prompts is None:  # nothing depends on the image
        no_prompts = tokens.new_empty(len(names), 2, 0, tokens.shape[-1])
        features = _sentence_features(tower, tokens, no_prompts, forest.kept_mask)
        features = _for_images(features, names, categories)
    else:
        mask = _for_images(forest.kept_mask, names, categories)
        features = _sentence_features(tower, _for_images(tokens, names, categories), prompts, mask)
    normal, abnormal = features.split([NUM_NORMAL, NUM_SENTENCES - NUM_NORMAL], dim=1)
    means = torch.stack([normal.mean(dim=1), abnormal.mean(dim=1)], dim=1)
    return F.normalize(means, dim=-1)


def _sentence_features(tower: Any, tokens: Tensor, prompts: Tensor, mask: Tensor) -> Tensor:
    """Blocks 1.. of the text tower.

    Args:
        tokens: [B, 1 + R, D] start token, sentences' ends, other nodes behind the prompts.
        prompts: [B, J, M, D], J ≥ 2.
        mask: [B, 1, 1 + M + R, 1 + M + R], additive.

    Returns:
        float32 [B, S, E], unit length.
    """
    _, *blocks, last = tower.transformer.resblocks
    depth, length = prompts.shape[1:3]
    ends = slice(1 + length, 1 + length + NUM_SENTENCES)
    tokens = torch.cat([tokens[:, :1], prompts[:, 1], tokens[:, 1:]], dim=1)
    for j, block in enumerate([*blocks, last], start=1):
        if 1 < j < depth:
            tokens = torch.cat([tokens[:, :1], prompts[:, j], tokens[:, 1 + length :]], dim=1)
        queries = ends if block is last else slice(None)
        tokens = run_block(block, tokens, mask=mask[..., queries, :], queries=queries)
    return F.normalize(_projected(tower, tower.ln_final(tokens)).float(), dim=-1)


def _projected(tower: Any, tokens: Tensor) -> Tensor:
    """Into the joint space."""
    if (projection := tower.text_projection) is None:
        return tokens
    projected: Tensor = (
        projection(tokens) if isinstance(projection, nn.Linear) else tokens @ projection
    )
    return projected


def _for_images(x: Tensor, names: Sequence[str], categories: Sequence[str]) -> Tensor:
    """[names, ...] → [B, ...], without a copy to the device where all names are equal."""
    if len(names) == 1:
        return x.expand(len(categories), *x.shape[1:])
    row = {name: i for i, name in enumerate(names)}
    return x[torch.tensor([row[name] for name in categories], device=x.device)]


def _behind_trunk(visible: Tensor, length: int) -> Tensor:
    """Put a causal trunk of ``length`` tokens, which all others see, before the nodes of a tree."""
    trunk = torch.ones(length + len(visible), length, dtype=torch.bool).tril()
    return torch.cat([trunk, F.pad(visible, (0, 0, length, 0))], dim=1)


def _additive(visible: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Masks [n, 1, L, L] that add nothing where a token is visible and -inf elsewhere."""
    longest = max(map(len, visible))
    # What pads sees the first node, because a softmax over nothing is no number.
    first = torch.arange(longest) == 0
    rows = [F.pad(x, (0, longest - len(x), 0, longest - len(x))) for x in visible]
    filled = torch.stack([torch.where(x.any(dim=1, keepdim=True), x, first) for x in rows])
    return torch.zeros(filled.shape, dtype=dtype).masked_fill(~filled, float("-inf"))[:, None]


def _pad(rows: list[Tensor]) -> Tensor:
    """[n, longest], padded with zeros on the right."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
