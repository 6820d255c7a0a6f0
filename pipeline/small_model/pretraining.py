"""Making a small CLIP backbone from a few thousand labelled pictures on a CPU.

CLIP learns which regions match which words from hundreds of millions of captioned images. With a
few thousand, the image tower is told more: which pixels are damaged, what the product looked like
before, which pictures show damage, and which product they show. Its read-outs have AdaCLIP's form,
cosines with two states, so AdaCLIP can start from them. Then the text tower is tuned to the locked
image tower (Zhai et al., "LiT", CVPR 2022): sentences about sound and damaged products come to lie
at the two states. What comes out has an OpenAI-style CLIP's architecture and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.adaclip import LOGIT_SCALE, NUM_TAPS
from pipeline.models.clip import embed_patches
from pipeline.models.losses import dice_loss
from pipeline.models.prompts import Projections
from pipeline.models.text import encode_text

MIN_DEFECT_SHARE = 0.15  # of a patch: one with less of a defect is neither sound nor damaged
POSITION_SCALE = 0.5  # of the position embedding, beside patches of unit variance
QUERY_SCALE, VALUE_SCALE = 0.8, 0.4  # Trockman & Kolter, ICML 2023, use 0.7 and 0.4
STATE_DISTANCE = 0.1  # of the two states at first, beside what they share
DICE_WEIGHT = 0.5
STATE_WEIGHT = 2.0  # one read-out beside four of the patches
SOUND_PATCHES = 0.2  # weight of restoring them, beside damaged ones
CATEGORY_WEIGHT = 0.1  # naming the product matters less here than judging it
DIFFERENCE_WEIGHT = 3.0  # of the text features, beside the distance of each
CATEGORY_SCALE = 10.0  # of unit-length class embeddings, before the linear read-out


@dataclass(frozen=True)
class Views:
    """What the image tower learns from: crops, or whole pictures."""

    images: Tensor
    """float32 [B, 3, S, S], normalised."""
    sound: Tensor
    """float32 [B, 3, S, S]: the same views of the same products before they were damaged."""
    masks: Tensor
    """float32 [B, S, S], 1 on the defect."""
    categories: Tensor
    """int64 [B] numbers."""


class PretrainingHeads(nn.Module):
    """Read-outs of the image tower; AdaCLIP starts from ``patch_token_layer``."""

    def __init__(self, clip: Any, num_categories: int) -> None:
        super().__init__()
        width, embed_dim = clip.visual.proj.shape
        size = clip.visual.conv1.kernel_size[0]
        self.patch_token_layer = Projections(width, embed_dim, NUM_TAPS)
        shared, apart = torch.randn(1, embed_dim), torch.randn(2, embed_dim)
        self.states = nn.Parameter(shared + STATE_DISTANCE * apart)
        self.category = nn.Linear(embed_dim, num_categories)
        self.pixels = nn.ModuleList(nn.Linear(width, size * size) for _ in range(NUM_TAPS))
        self.restored = nn.Linear(width, 3 * size * size)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Sound and damaged logits [..., 2] of embeddings [..., E], as AdaCLIP reads them."""
        unit = F.normalize(embeddings.float(), dim=-1)
        return LOGIT_SCALE * unit @ F.normalize(self.states, dim=-1).T


def initialise_image_tower(clip: Any, images: Tensor) -> None:
    """Start from what small sets can't teach: whitened patches, places, and mimetic attention.

    The patch embedding whitens the patches of ``images``, positions are sines of their row and
    column, and attention begins by comparing similar tokens and subtracting their mean (Trockman
    & Kolter, "Mimetic Initialization of Self-Attention Layers", ICML 2023).

    Args:
        images: float32 [B, 3, H, W], normalised; enough of them for the covariance of a patch.
    """
    visual = clip.visual
    width, _, size, _ = visual.conv1.weight.shape
    patches = F.unfold(images, size, stride=size).mT.flatten(0, 1)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T).double())
    floor = 0.003 * values.mean()  # sensor noise stays small
    whitening = (vectors / (values.clamp(min=0) + floor).sqrt()).T.flip(0)[:width].float()
    grid = round((visual.positional_embedding.shape[0] - 1) ** 0.5)
    with torch.no_grad():
        visual.conv1.weight.zero_()
        visual.conv1.weight[: len(whitening)] = whitening.unflatten(1, (3, size, size))
        visual.positional_embedding[1:] = POSITION_SCALE * _sines(grid, width)
        for block in visual.transformer.resblocks:
            compare, pass_on = (nn.init.orthogonal_(torch.empty(width, width)) for _ in range(2))
            block.attn.in_proj_weight[: 2 * width] = QUERY_SCALE * compare.repeat(2, 1)
            block.attn.in_proj_weight[2 * width :] = pass_on
            block.attn.out_proj.weight.copy_(-VALUE_SCALE * pass_on.T)


def image_tower_loss(
    clip: Any, heads: PretrainingHeads, views: Views, corner: tuple[int, int] = (0, 0)
) -> Tensor:
    """What the image tower learns from: damaged patches and pixels, what was there before,
    damaged pictures, and their category.

    Args:
        views: of one size; small ones are many times cheaper.
        corner: row and column of the views' first patch in the tower's grid.
    """
    visual, size = clip.visual, clip.visual.conv1.kernel_size[0]
    defect = F.unfold(views.masks[:, None], size, stride=size).mT  # [B, N, pixels]
    share = defect.mean(dim=-1)
    damaged = share > MIN_DEFECT_SHARE
    known = damaged | (share == 0)
    positions = _window(visual.positional_embedding, corner, views.images.shape[-1] // size)
    tokens = embed_patches(visual, views.images, positions)
    loss = tokens.new_zeros(())
    every = len(visual.transformer.resblocks) // NUM_TAPS
    for j, block in enumerate(visual.transformer.resblocks):
        tokens = _run_block(block, tokens)
        if (j + 1) % every == 0:
            tap, patches = j // every, tokens[:, 1:]
            logits = heads.logits(heads.patch_token_layer.head[tap](patches))
            loss = loss + F.cross_entropy(logits[known], damaged[known].long())
            probability = (logits.softmax(dim=-1)[..., 1] * known).flatten()[None]
            loss = loss + DICE_WEIGHT * dice_loss(probability, damaged.flatten()[None])
            normed = F.layer_norm(patches, patches.shape[-1:])
            pixels = heads.pixels[tap](normed).float()
            loss = loss + F.binary_cross_entropy_with_logits(pixels, defect)
    loss = loss + _restoration_loss(heads.restored(normed).float(), views, share > 0, size)
    embedding = F.normalize(visual.ln_post(tokens[:, 0]) @ visual.proj, dim=-1)
    state = F.cross_entropy(heads.logits(embedding), damaged.any(dim=1).long())
    category = F.cross_entropy(heads.category(CATEGORY_SCALE * embedding), views.categories)
    return loss + STATE_WEIGHT * state + CATEGORY_WEIGHT * category


def _restoration_loss(restored: Tensor, views: Views, touched: Tensor, size: int) -> Tensor:
    """How far the patches [B, N, 3 · pixels] are from what the damage changed."""
    change = F.unfold(views.sound - views.images, size, stride=size).mT
    error = F.smooth_l1_loss(restored, change, reduction="none").mean(dim=-1)
    damaged = (error * touched).sum() / touched.sum().clamp(min=1)
    sound = (error * ~touched).sum() / (~touched).sum().clamp(min=1)
    return damaged + SOUND_PATCHES * sound


def text_tower_loss(
    clip: Any, states: Tensor, names: Sequence[str], prompts: Tensor | None
) -> Tensor:
    """How far AdaCLIP's text features are from the image tower's two states.

    Their difference counts most: scores and maps are nothing but a cosine with it.

    Args:
        states: [2, E] sound and damaged, unit length.
        names: B class names.
        prompts: [B, J, M, D] in front of the sentences, or None: see ``encode_text``.

    Returns:
        The squared distance, over that of the states from each other.
    """
    error = encode_text(clip, names, prompts) - states
    apart = (states[1] - states[0]).square().sum()
    difference = (error[:, 1] - error[:, 0]).square().sum(dim=-1)
    loss = error.square().sum(dim=-1).mean() + DIFFERENCE_WEIGHT * difference.mean()
    return loss / apart


def _run_block(block: Any, tokens: Tensor) -> Tensor:
    """``run_block`` for autocast: attention stays float32, faster on CPUs than bfloat16."""
    attention = block.attn
    mixed = F.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = mixed.float().unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    with torch.autocast(tokens.device.type, enabled=False):
        out = F.scaled_dot_product_attention(q, k, v)
    tokens = tokens + attention.out_proj(out.transpose(1, 2).flatten(2))
    updated: Tensor = tokens + block.mlp(block.ln_2(tokens))
    return updated


def _window(embedding: Tensor, corner: tuple[int, int], side: int) -> Tensor:
    """The class position and those of ``side`` × ``side`` patches."""
    grid = round((embedding.shape[0] - 1) ** 0.5)
    (row, column), places = corner, embedding[1:].unflatten(0, (grid, grid))
    return torch.cat(
        [embedding[:1], places[row : row + side, column : column + side].flatten(0, 1)]
    )


def _sines(grid: int, width: int) -> Tensor:
    """[grid², width] sines and cosines of rows and columns, from the grid's size down to 4."""
    frequencies = 2 * math.pi / torch.logspace(0, 1, width // 4, base=4 / grid) / grid
    place = torch.arange(grid)[:, None] * frequencies
    waves = torch.cat([place.sin(), place.cos()], dim=1)
    rows = waves[:, None].expand(-1, grid, -1)
    return torch.cat([rows, rows.transpose(0, 1)], dim=-1).flatten(0, 1)
