"""AdaCLIP cut at its stages, as it runs here and as it was released, and the floor below both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from open_clip import SimpleTokenizer
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from pipeline.models import AdaCLIP, Features, Prediction
from pipeline.models.clip import embed_patches, project_class_token, run_block
from pipeline.models.fusion import fuse
from pipeline.models.text import encode_text, sentences

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


def run_released_stages(
    model: AdaCLIP, images: Tensor, categories: Sequence[str], watch: Watch
) -> None:
    """The stages that the released code runs in another way, with the same names.

    It embeds the patches once for each pass, updates all tokens of the frozen pass's last block,
    and runs the text in full. Its prompts, prompted pass and projections cost what ours do; its
    k-means runs outside PyTorch.
    """
    visual = model.clip.visual

    def embed() -> Tensor:
        return embed_patches(visual, images, model.position_embedding)

    tokens, _ = watch("patch embedding", lambda: (embed(), embed()))
    watch("frozen pass", lambda: _whole_pass(visual, tokens))
    ids = released_text_ids(model, categories)
    watch("text", lambda: model.clip.encode_text(ids))


def released_text_ids(model: AdaCLIP, categories: Sequence[str]) -> Tensor:
    """[48 · B, 77] token ids: every sentence of every image, for open_clip's ``encode_text``."""
    tokenize = SimpleTokenizer()
    ids = [tokenize(sentences(name), model.clip.context_length) for name in categories]
    return torch.cat(ids).to(model.device)


def plain_pass(model: AdaCLIP, images: Tensor) -> Tensor:
    """open_clip's own image tower at AdaCLIP's image size: [B, 3, H, W] → [B, E]."""
    places = {"positional_embedding": model.position_embedding}
    embedding: Tensor = functional_call(model.clip.visual, places, (images,))
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


def _whole_pass(visual: Any, tokens: Tensor) -> Tensor:
    for block in visual.transformer.resblocks:
        tokens = run_block(block, tokens)
    return project_class_token(visual, tokens)
