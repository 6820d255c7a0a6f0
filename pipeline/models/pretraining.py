"""Making a small CLIP backbone from a few thousand labelled pictures on a CPU.

CLIP learns which regions match which words from hundreds of millions of captioned images. With a
few thousand, the image tower is told more: it learns from the category and state of each picture
and from the defect's mask, then the text tower is tuned to the locked image tower (Zhai et al.,
"LiT", CVPR 2022). What comes out has an OpenAI-style CLIP's architecture and nothing else.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .adaclip import LOGIT_SCALE
from .clip import embed_patches, run_block
from .losses import dice_loss

MIN_DEFECT_SHARE = 0.15  # of a patch: one with less of a defect is neither sound nor damaged
POSITION_SCALE = 0.5  # of the position embedding, beside patches of unit variance
QUERY_SCALE, VALUE_SCALE = 0.8, 0.4  # Trockman & Kolter, ICML 2023, use 0.7 and 0.4
STATE_SCALE = 10.0  # of unit-length class embeddings, before the linear read-outs
DICE_WEIGHT = 0.5
STATE_WEIGHT = 2.0  # one read-out beside four of the patches
CATEGORY_WEIGHT = 0.1  # naming the product matters less here than judging it


class PretrainingHeads(nn.Module):
    """Linear read-outs that exist only while the image tower learns."""

    def __init__(self, clip: Any, num_categories: int, taps: list[int]) -> None:
        super().__init__()
        width, embed_dim = clip.visual.proj.shape
        self.taps = taps
        self.patch = nn.ModuleList(nn.Linear(width, 2) for _ in taps)
        self.state = nn.Linear(embed_dim, 2)
        self.category = nn.Linear(embed_dim, num_categories)


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
    clip: Any,
    heads: PretrainingHeads,
    images: Tensor,
    masks: Tensor,
    categories: Tensor,
    corner: tuple[int, int] = (0, 0),
) -> Tensor:
    """What the image tower learns from: damaged patches, damaged pictures, and their category.

    Args:
        images: float32 [B, 3, S, S], normalised: whole pictures or, many times cheaper, crops.
        masks: float32 [B, S, S], 1 on the defect.
        categories: [B] numbers.
        corner: row and column of the crops' first patch in the tower's grid.
    """
    visual = clip.visual
    share = F.avg_pool2d(masks[:, None], visual.conv1.kernel_size)[:, 0]
    positions = _window(visual.positional_embedding, corner, share.shape[-1])
    damaged = share.flatten(1) > MIN_DEFECT_SHARE
    known = damaged | (share.flatten(1) == 0)
    tokens = embed_patches(visual, images, positions)
    loss = images.new_zeros(())
    for j, block in enumerate(visual.transformer.resblocks):
        tokens = _run_block(block, tokens)
        if j + 1 in heads.taps:
            head = heads.patch[heads.taps.index(j + 1)]
            logits = head(F.layer_norm(tokens[:, 1:], tokens.shape[-1:]))
            loss = loss + F.cross_entropy(logits[known], damaged[known].long())
            probability = (logits.softmax(dim=-1)[..., 1] * known).flatten()[None]
            loss = loss + DICE_WEIGHT * dice_loss(probability, damaged.flatten()[None])
    embedding = STATE_SCALE * F.normalize(visual.ln_post(tokens[:, 0]) @ visual.proj, dim=-1)
    state = F.cross_entropy(heads.state(embedding), damaged.any(dim=1).long())
    loss = loss + STATE_WEIGHT * state
    return loss + CATEGORY_WEIGHT * F.cross_entropy(heads.category(embedding), categories)


def text_tower_loss(clip: Any, images: Tensor, meanings: Tensor, tokens: Tensor) -> Tensor:
    """Contrast between locked class embeddings and sentences about the same pictures.

    The scale is the one that AdaCLIP reads both with. At a smaller one the sentences about good and
    damaged products would have to be so far apart that AdaCLIP's maps start saturated, with hardly
    a gradient.

    Args:
        images: [B, E] class embeddings, unit length.
        meanings: [B] numbers; pictures of one meaning don't repel each other's sentences.
        tokens: [B, 77] of a sentence about each picture.
    """
    logits = LOGIT_SCALE * images @ clip.encode_text(tokens, normalize=True).T
    same = (meanings[:, None] == meanings).float()
    target = same / same.sum(dim=1, keepdim=True)
    loss: Tensor = F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)
    return loss


def class_embedding(clip: Any, images: Tensor) -> Tensor:
    """Plain class embeddings [B, E], unit length, of images at the tower's native size."""
    visual = clip.visual
    tokens = embed_patches(visual, images, visual.positional_embedding)
    for block in visual.transformer.resblocks:
        tokens = run_block(block, tokens)
    embedding: Tensor = F.normalize(visual.ln_post(tokens[:, 0]) @ visual.proj, dim=-1)
    return embedding


def _run_block(block: Any, tokens: Tensor) -> Tensor:
    """``clip.run_block`` for autocast: attention stays float32, faster on CPUs than bfloat16."""
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
