"""The frozen CLIP backbone: built by open_clip, run block by block so that prompts can enter.

AdaCLIP inserts tokens between transformer blocks, which open_clip's own ``forward`` has no place
for. The towers' modules and weights stay open_clip's; only the loop over the blocks is here.

Letters used in ``pipeline.models``:
B images, N patches, L tokens, D width of a tower, E width of the joint embedding,
M prompt length, J prompt depth, T tapped layers, S sentences, K clusters.
"""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

# What an open_clip configuration may set and still be an OpenAI-style CLIP.
_TOWER_KEYS = {"layers", "width", "mlp_ratio", "ls_init_value", "norm_kwargs", "act_kwargs"}
VISION_KEYS = _TOWER_KEYS | {"image_size", "patch_size", "head_width", "patch_dropout"}
TEXT_KEYS = _TOWER_KEYS | {"context_length", "vocab_size", "heads"}


def clip_config(backbone: str) -> dict[str, Any]:
    """Read an open_clip architecture: a registered name or the path of a JSON configuration.

    Returns the keyword arguments of ``open_clip.CLIP`` with the exact GELU: the released AdaCLIP
    weights were trained with it, although OpenAI's own CLIP uses QuickGELU.

    Raises:
        ValueError: unknown name, or an architecture that is not an OpenAI-style ViT CLIP.
    """
    if backbone.endswith(".json"):
        path = Path(backbone)
        if not path.is_file():
            raise ValueError(f"backbone configuration {backbone!r} does not exist")
        config = json.loads(path.read_text())
    else:
        config = copy.deepcopy(open_clip.get_model_config(backbone))
        if config is None:
            raise ValueError(
                f"unknown backbone {backbone!r}; give a name of open_clip.list_models() "
                "(the released checkpoints need ViT-L-14-336) or an open_clip JSON file"
            )
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    # Another tokenizer, pooling or mask (CLIPA, worldwide, ...) would run and give wrong features.
    plain_vit = isinstance(vision.get("layers"), int) and vision.keys() <= VISION_KEYS
    plain_text = text.keys() <= TEXT_KEYS
    if not plain_vit or not plain_text or config.get("custom_text"):
        raise ValueError(
            f"backbone {backbone!r} is not an OpenAI-style ViT CLIP; "
            "AdaCLIP's prompts are defined for those only (try ViT-L-14-336 or ViT-B-16)"
        )
    return {
        "embed_dim": config["embed_dim"],
        "vision_cfg": vision,
        "text_cfg": text,
        "quick_gelu": False,
    }


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
    """Build a frozen ``open_clip.CLIP`` at its native image size.

    Args:
        backbone: open_clip name or path of an open_clip JSON configuration.
        state_dict: weights under OpenAI/open_clip names, or None for random weights, which are
            the same in every process (``seed``).

    Raises:
        ValueError: the weights do not fit the architecture.
    """
    config = clip_config(backbone)
    with torch.random.fork_rng(devices=[]), _Undrawn() if state_dict else nullcontext():
        torch.manual_seed(seed)
        model = open_clip.CLIP(**config)
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


def resize_position_embedding(embedding: Tensor, grid: int) -> Tensor:
    """Resize a ViT position embedding to another patch grid.

    Bicubic without antialiasing and without aligned corners, as the released code does;
    open_clip's own resize antialiases and gives other values.

    Args:
        embedding: [1 + n·n, D], class position first.
        grid: patches along one side of the new grid.

    Returns:
        [1 + grid·grid, D].
    """
    native = round((embedding.shape[0] - 1) ** 0.5)
    if native == grid:
        return embedding
    class_position, patches = embedding[:1], embedding[1:]
    patches = patches.reshape(1, native, native, -1).permute(0, 3, 1, 2)
    patches = F.interpolate(
        patches, (grid, grid), mode="bicubic", align_corners=False, antialias=False
    )
    return torch.cat([class_position, patches.permute(0, 2, 3, 1).reshape(grid * grid, -1)])


def embed_patches(visual: Any, images: Tensor, position_embedding: Tensor) -> Tensor:
    """Images [B, 3, H, W] → the tokens that enter block 0 [B, 1 + N, D], class token first."""
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    class_token = visual.class_embedding.expand(len(images), 1, -1)
    tokens: Tensor = visual.ln_pre(torch.cat([class_token, patches], dim=1) + position_embedding)
    return tokens


def project_class_token(visual: Any, tokens: Tensor) -> Tensor:
    """Final tokens [B, L, D] → class embedding in the joint space [B, E], not normalised."""
    embedding: Tensor = visual.ln_post(tokens[:, 0]) @ visual.proj
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
        block: an open_clip ``ResidualAttentionBlock``.
        tokens: [B, L, D].
        mask: additive attention mask, broadcastable to [B, heads, len(queries), L].
        queries: which tokens to update; the rest serve as keys and values.

    Returns:
        The updated tokens ``tokens[:, queries]``.
    """
    context = block.ln_1(tokens)
    normed = context if queries == slice(None) else context[:, queries]
    tokens = _add(block.ls_1(_attend(block.attn, normed, context, mask)), tokens[:, queries])
    hidden = block.mlp.c_fc(block.ln_2(tokens))
    return _add(block.ls_2(block.mlp.c_proj(_activate(block.mlp.gelu, hidden))), tokens)


# In place where nothing else holds the tensor: on CPUs the first touch of new memory is felt.
def _add(branch: Tensor, tokens: Tensor) -> Tensor:
    """The residual sum, overwriting the branch; autocast keeps the wider type of the two."""
    return branch.add_(tokens) if branch.dtype == tokens.dtype else branch + tokens


def _activate(activation: Any, hidden: Tensor) -> Tensor:
    """The exact GELU, overwriting its input where no gradient will ask for it."""
    if hidden.requires_grad or not isinstance(activation, nn.GELU):
        activated: Tensor = activation(hidden)
        return activated
    overwritten: Tensor = torch.ops.aten.gelu_(hidden)
    return overwritten


def _attend(attention: Any, queries: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
    """Multi-head attention with fused kernels and without materialised weights."""
    width, heads = attention.embed_dim, attention.num_heads
    if queries is context:
        q, k, v = F.linear(context, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    else:
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        q = F.linear(queries, weight[:width], bias[:width])
        k, v = F.linear(context, weight[width:], bias[width:]).chunk(2, -1)
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    projected: Tensor = attention.out_proj(out.transpose(1, 2).flatten(2))
    return projected
