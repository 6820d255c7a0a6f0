"""The frozen CLIP backbone: built by open_clip, run block by block so that prompts can enter.

AdaCLIP inserts tokens between transformer blocks, which open_clip's own ``forward`` has no place
for. The towers' modules and weights stay open_clip's; only the loop over the blocks is here. Image
towers are open_clip's own, or plain ViTs of timm (``visual.trunk``).

Letters used in ``pipeline.models``:
B images, N patches, P tokens before them (class token, registers, or none), L tokens, D width of a
tower, E width of the joint embedding, M prompt length, J prompt depth, T tapped layers,
S sentences, K clusters.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import (
    Attention,
    CustomResidualAttentionBlock,
    ResidualAttentionBlock,
)
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

from .configuration import clip_config, new_clip


class _Undrawn(TorchFunctionMode):
    """Weights stay unset that would be drawn at random, half the time of building a backbone."""

    DRAWS = frozenset(
        (init.normal_, init.uniform_, init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_)
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_clip(backbone: str, state_dict: dict[str, Tensor] | None, *, seed: int = 0) -> Any:
    """Build a frozen open_clip model at its native image size.

    Args:
        backbone: open_clip name or path of an open_clip JSON configuration.
        state_dict: weights under OpenAI/open_clip names, or None for random weights, which are
            the same in every process (``seed``).

    Raises:
        ValueError: the weights do not fit the architecture, or it can't be taken.
    """
    config = clip_config(backbone)
    with torch.random.fork_rng(devices=[]), _Undrawn() if state_dict else nullcontext():
        torch.manual_seed(seed)
        model = new_clip(config)
    if state_dict is not None:
        # The TorchScript archive that OpenAI published carries three integers beside the weights.
        sizes = {"input_resolution", "context_length", "vocab_size"}
        weights = {k: v.float() for k, v in state_dict.items() if k not in sizes}
        try:
            model.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            lines = str(error).splitlines()
            raise ValueError(
                f"backbone weights do not fit {backbone!r}: {' '.join(lines[1:4]).strip()}"
            ) from error
    return model.eval().requires_grad_(False)


def is_timm(visual: Any) -> bool:
    """Whether timm made the image tower."""
    return hasattr(visual, "trunk")


def blocks_of(visual: Any) -> nn.Module:
    """The transformer blocks of an image tower, first to last."""
    blocks: nn.Module = visual.trunk.blocks if is_timm(visual) else visual.transformer.resblocks
    return blocks


def patch_layer(visual: Any) -> nn.Conv2d:
    """The convolution that makes a token of each patch."""
    layer: nn.Conv2d = visual.trunk.patch_embed.proj if is_timm(visual) else visual.conv1
    return layer


def num_prefix_tokens(visual: Any) -> int:
    """P, the tokens before those of the patches."""
    return int(visual.trunk.num_prefix_tokens) if is_timm(visual) else 1


def position_embedding(visual: Any) -> Tensor:
    """Positions of the P + N tokens, [P + N, D]; zeros where the first P have none."""
    if not is_timm(visual):
        return visual.positional_embedding.detach()  # type: ignore[no-any-return]
    trunk = visual.trunk
    places: Tensor = trunk.pos_embed[0].detach()
    return F.pad(places, (0, 0, trunk.num_prefix_tokens, 0)) if trunk.no_embed_class else places


def resize_position_embedding(embedding: Tensor, grid: int, num_prefix: int = 1) -> Tensor:
    """Resize a ViT position embedding to another patch grid.

    Bicubic without antialiasing and without aligned corners, as the released code does;
    open_clip's own resize antialiases and gives other values.

    Args:
        embedding: [P + n·n, D], the prefix first.
        grid: patches along one side of the new grid.
        num_prefix: P.

    Returns:
        [P + grid·grid, D].
    """
    native = round((embedding.shape[0] - num_prefix) ** 0.5)
    if native == grid:
        return embedding
    prefix, patches = embedding[:num_prefix], embedding[num_prefix:]
    patches = patches.reshape(1, native, native, -1).permute(0, 3, 1, 2)
    patches = F.interpolate(
        patches, (grid, grid), mode="bicubic", align_corners=False, antialias=False
    )
    return torch.cat([prefix, patches.permute(0, 2, 3, 1).reshape(grid * grid, -1)])


def embed_patches(visual: Any, images: Tensor, position_embedding: Tensor) -> Tensor:
    """Images [B, 3, H, W] → the tokens that enter block 0 [B, P + N, D], the prefix first."""
    patches = patch_layer(visual)(images).flatten(2).transpose(1, 2)
    if is_timm(visual):
        trunk = visual.trunk
        prefix = [each for each in (trunk.cls_token, trunk.reg_token) if each is not None]
        patches, norm = trunk.patch_embed.norm(patches), trunk.norm_pre
    else:
        prefix, norm = [visual.class_embedding[None, None]], visual.ln_pre
    before = [each.expand(len(images), -1, -1) for each in prefix]
    tokens: Tensor = norm(torch.cat([*before, patches], dim=1) + position_embedding)
    return tokens


def embeds_class_token(visual: Any) -> bool:
    """Whether the image's embedding asks for no token but the first."""
    return not is_timm(visual) and visual.pool_type == "tok"


def embed_image(visual: Any, tokens: Tensor) -> Tensor:
    """Final tokens → the image's embedding in the joint space [B, E], not normalised.

    Args:
        tokens: [B, P + N, D], without prompts; the class token alone will do where
            ``embeds_class_token``.
    """
    embedding: Tensor
    if is_timm(visual):
        embedding = visual.head(visual.trunk.forward_head(visual.trunk.norm(tokens)))
        return embedding
    if visual.pool_type == "tok":
        pooled = visual.ln_post(tokens[:, 0])
    elif visual.final_ln_after_pool:
        pooled = visual.ln_post(tokens[:, 1:].mean(dim=1))
    else:
        pooled = visual.ln_post(tokens[:, 1:]).mean(dim=1)
    embedding = pooled @ visual.proj
    return embedding


def run_block(
    block: Any,
    tokens: Tensor,
    *,
    mask: Tensor | None = None,
    queries: slice = slice(None),
) -> Tensor:
    """One residual attention block, computed only for the tokens that are wanted.

    Args:
        block: one of open_clip's, or of timm's, which always computes all tokens.
        tokens: [B, L, D].
        mask: additive attention mask, broadcastable to [B, heads, len(queries), L].
        queries: which tokens to update; the rest serve as keys and values.

    Returns:
        The updated tokens ``tokens[:, queries]``.
    """
    if not isinstance(block, ResidualAttentionBlock | CustomResidualAttentionBlock):
        updated: Tensor = block(tokens)
        return updated[:, queries]
    custom = isinstance(block, CustomResidualAttentionBlock)
    context = block.ln_1(tokens)
    normed = context if queries == slice(None) else context[:, queries]
    attended = _attend(block.attn, normed, context, mask)
    if custom:
        attended = block.ln_attn(attended)
    tokens = _add(block.ls_1(attended), tokens[:, queries])
    hidden = _activate(block.mlp.gelu, block.mlp.c_fc(block.ln_2(tokens)))
    if custom:
        hidden = block.mlp.ln(hidden)
    return _add(block.ls_2(block.mlp.c_proj(hidden)), tokens)


# In place where nothing else holds the tensor: on CPUs the first touch of new memory is felt.
def _add(branch: Tensor, tokens: Tensor) -> Tensor:
    """The residual sum, overwriting the branch; autocast keeps the wider type of the two."""
    return branch.add_(tokens) if branch.dtype == tokens.dtype else branch + tokens


def _activate(activation: Any, hidden: Tensor) -> Tensor:
    """The GELU, overwriting its input where no gradient will ask for it."""
    if hidden.requires_grad or not isinstance(activation, nn.GELU):
        activated: Tensor = activation(hidden)
        return activated
    overwritten: Tensor = torch.ops.aten.gelu_(hidden, approximate=activation.approximate)
    return overwritten


def _attend(attention: Any, queries: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
    """Multi-head attention with fused kernels and without materialised weights."""
    width, heads = attention.in_proj_weight.shape[1], attention.num_heads
    custom = isinstance(attention, Attention)
    if queries is context:
        q, k, v = F.linear(context, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    else:
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        q = F.linear(queries, weight[:width], bias[:width])
        k, v = F.linear(context, weight[width:], bias[width:]).chunk(2, -1)
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    if custom:
        q, k = attention.ln_q(q), attention.ln_k(k)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if custom and attention.head_scale is not None:
        out = out * attention.head_scale
    out = out.transpose(1, 2).flatten(2)
    projected: Tensor = attention.out_proj(attention.ln_inner(out) if custom else out)
    return projected
