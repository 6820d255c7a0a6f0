"""A training step that does the work of the released code's: the baseline of the benchmark.

Our own code, written after what the released code was seen to do, and used for nothing else. Its
losses are those of ``pipeline.models.training`` (a test compares them); only the work differs:

* every weight requires a gradient, so those of the frozen backbone are computed, and never used;
* the prompted image pass asks the attention for its weights, which rules out fused kernels;
* all 48 sentences of every image run through the text tower at their full 77 tokens;
* patches are embedded for each of the two passes;
* one image a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import SimpleTokenizer
from torch import Tensor

from pipeline.models import AdaCLIP, Features
from pipeline.models.clip import embed_patches, project_class_token
from pipeline.models.losses import classification_loss, map_losses
from pipeline.models.text import NUM_NORMAL, sentences


def prepare(model: AdaCLIP) -> None:
    """Let every weight require a gradient; after ``make_optimizer``, which freezes the backbone."""
    model.requires_grad_(True)


def released_step(
    model: AdaCLIP,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    categories: Sequence[str],
    labels: Tensor,
    masks: Tensor,
) -> float:
    """One step on one image; returns the loss. Arguments as ``training_step``'s.

    Raises:
        ValueError: more than one image, which the released code can't do.
    """
    if len(images) != 1:
        raise ValueError(f"the released code trains on one image a step, got {len(images)}")
    optimizer.zero_grad(set_to_none=True)  # of the learnable weights; the others' pile up
    loss = released_loss(model, images, categories, labels, masks)
    loss.backward()
    optimizer.step()
    return loss.item()


def released_loss(
    model: AdaCLIP, images: Tensor, categories: Sequence[str], labels: Tensor, masks: Tensor
) -> Tensor:
    """The sum of the three losses."""
    features = _features(model, images, categories)
    focal, dice = map_losses(features, masks.float())
    return classification_loss(model, features, labels) + focal + dice


def _features(model: AdaCLIP, images: Tensor, categories: Sequence[str]) -> Features:
    visual = model.clip.visual
    with torch.no_grad():
        tokens = embed_patches(visual, images, model.position_embedding)
        for block in visual.transformer.resblocks:
            tokens = _block(block, tokens)
        frozen = project_class_token(visual, tokens)
    visual_prompts, text_prompts = model.prompts(frozen)
    assert visual_prompts is not None
    assert text_prompts is not None
    tokens = embed_patches(visual, images, model.position_embedding)
    length, tapped = tokens.shape[1], []
    for j, block in enumerate(visual.transformer.resblocks):
        if j < visual_prompts.shape[1]:
            tokens = torch.cat([tokens[:, :length], visual_prompts[:, j]], dim=1)
        tokens = _block(block, tokens, need_weights=True)
        if j + 1 in model.taps:
            tapped.append(tokens[:, 1:length])
    class_embedding = model.cls_token_layer.fan_out(project_class_token(visual, tokens)).squeeze(1)
    text = [_text(model.clip, c, p) for c, p in zip(categories, text_prompts, strict=True)]
    return Features(
        F.normalize(class_embedding, dim=-1),
        F.normalize(model.patch_token_layer.each(tapped), dim=-1),
        torch.stack(text),
    )


def _text(clip: Any, category: str, prompts: Tensor) -> Tensor:
    """Normal and abnormal vector [2, E] of one image, whose prompts are [J, M, D]."""
    ids = SimpleTokenizer()(sentences(category), clip.context_length)
    ids = ids.to(prompts.device)
    tokens = clip.token_embedding(ids) + clip.positional_embedding
    depth, length = prompts.shape[:2]
    causal = torch.full((ids.shape[1],) * 2, float("-inf"), device=ids.device).triu(1)
    for j, block in enumerate(clip.transformer.resblocks):
        if 0 < j < depth:
            own = prompts[j].expand(len(ids), -1, -1)
            tokens = torch.cat([tokens[:, :1], own, tokens[:, 1 + length :]], dim=1)
        tokens = _block(block, tokens, mask=causal)
    at_end = clip.ln_final(tokens)[torch.arange(len(ids)), ids.argmax(dim=-1)]
    features = F.normalize(at_end @ clip.text_projection, dim=-1)
    means = [features[:NUM_NORMAL].mean(dim=0), features[NUM_NORMAL:].mean(dim=0)]
    return F.normalize(torch.stack(means), dim=-1)


def _block(
    block: Any, tokens: Tensor, *, mask: Tensor | None = None, need_weights: bool = False
) -> Tensor:
    normed = block.ln_1(tokens)
    attended, _ = block.attn(normed, normed, normed, need_weights=need_weights, attn_mask=mask)
    tokens = tokens + block.ls_1(attended)
    updated: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return updated
