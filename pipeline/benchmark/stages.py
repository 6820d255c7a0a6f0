"""AdaCLIP cut at its stages, and the floor below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from pipeline.models import AdaCLIP, Features, Prediction
from pipeline.models.clip import embed_image, embed_patches, is_timm
from pipeline.models.fusion import fuse
from pipeline.models.text import encode_text

STAGES = (
    "patch embedding",
    "frozen pass",
    "prompts",
    "prompted pass",
    "text",
    "projections",
    "maps",
    "fusion",
)

Result = TypeVar("Result")


class Watch(Protocol):
    """Calls one stage, returns what it returned, and notes something about it."""

    def __call__(self, stage: str, function: Callable[[], Result]) -> Result:
        """Run ``function`` as ``stage``."""


def run_stages(
    model: AdaCLIP, images: Tensor, categories: Sequence[str], watch: Watch
) -> Prediction:
    """``AdaCLIP.predict`` stage by stage; arguments as there, ``images`` in the model's precision.

    ``watch`` is called once for each of ``STAGES``, fusion only where the model has it on.
    """
    clip, settings = model.clip, model.settings
    tokens = watch(
        "patch embedding", lambda: embed_patches(clip.visual, images, model.position_embedding)
    )
    frozen = watch(
        "frozen pass", lambda: model.frozen_embedding(model.frozen_tokens(images, tokens))
    )
    visual, text = watch("prompts", lambda: model.prompts(frozen))
    embedding, tapped = watch("prompted pass", lambda: model.encode_image(tokens, visual))
    text_features = watch("text", lambda: encode_text(clip, categories, text))
    image_features = watch("projections", lambda: model.project(embedding, tapped))
    features = Features(*image_features, text_features)
    grid = watch("maps", features.logit_grid)
    if settings.use_fusion:
        watch(
            "fusion",
            lambda: fuse(
                features.class_embedding, features.patch_embeddings, grid, settings.num_clusters
            ),
        )
    return model.score(features)


def plain_pass(model: AdaCLIP, images: Tensor) -> Tensor:
    """The image tower's own pass at AdaCLIP's image size: [B, 3, H, W] → [B, E]."""
    visual = model.clip.visual
    if is_timm(visual):  # whose own embedding of patches takes its own size only
        tokens = visual.trunk.blocks(embed_patches(visual, images, model.position_embedding))
        return embed_image(visual, tokens)
    places = {"positional_embedding": model.position_embedding}
    embedding: Tensor = functional_call(visual, places, (images,))
    return embedding


def count_flops(run: Callable[[Watch], object]) -> dict[str, int]:
    """Multiplications and additions of matrix products, convolutions and attention, by stage.

    Nothing is computed, so what the model keeps from one call to the next must exist already.
    """
    flops: dict[str, int] = {}

    def watch(stage: str, function: Callable[[], Result]) -> Result:
        counter = FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION)
        with counter:
            result = function()
        flops[stage] = counter.get_total_flops()
        return result

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its one kernel is not counted
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            run(watch)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return flops


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


_CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
