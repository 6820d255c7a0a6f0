"""AdaCLIP: zero-shot anomaly detection with hybrid learnable prompts (Cao et al., ECCV 2024).

Two passes of the image tower: a plain one, whose class embedding generates the dynamic prompts,
and a prompted one, whose patch tokens after each quarter of the depth are compared with the
prompted text features. See ``pipeline.models.clip`` for the letters in shapes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .clip import (
    blocks_of,
    embed_image,
    embed_patches,
    embeds_class_token,
    num_prefix_tokens,
    patch_layer,
    position_embedding,
    resize_position_embedding,
    run_block,
)
from .configuration import OPENAI_PIXELS, Pixels
from .fusion import fuse
from .prompts import Projections, StaticPrompts, combine
from .text import embedding_width, encode_text, text_tower

LOGIT_SCALE = 100.0  # CLIP's temperature, fixed in the released code
NUM_TAPS = 4  # patch tokens after 1/4, 2/4, 3/4 and 4/4 of the blocks (section 4.1)
# The first taps of the frozen pass are compared with an image's siblings. The last one made pixel
# AP worse (docs/references.md), and is the only one that the frozen pass does not compute anyway.
NUM_REFERENCE_TAPS = 3

# Part of every fingerprint: raise it when a change of code changes scores beyond rounding.
METHOD_VERSION = 1

PromptKind = Literal["both", "static", "dynamic", "none"]
PromptedTowers = Literal["both", "visual", "text"]


@dataclass(frozen=True, kw_only=True)
class AdaCLIPSettings:
    """What defines the method beside the weights; the defaults are the released model's."""

    image_size: int = 518
    """Side of the square input in pixels; a multiple of the backbone's patch size."""
    prompt_length: int = 5
    """M, prompt tokens a block."""
    prompt_depth: int = 4
    """J, prompted blocks counted from the input."""
    num_clusters: int = 20
    """K of the hybrid semantic fusion."""
    use_fusion: bool = True
    """Hybrid semantic fusion on, or the image score from the class embedding alone."""
    prompt_kind: PromptKind = "both"
    """Static prompts, dynamic prompts, their sum, or none (table 3 of the paper)."""
    prompted_towers: PromptedTowers = "both"
    """Towers that receive prompts (table 4 of the paper)."""
    frozen_image_size: int | None = None
    """Changes results: the frozen pass sees the image at this side in pixels, a multiple of the
    patch size, such as the backbone's own 336. None, the method's way: at ``image_size``."""


@dataclass(frozen=True)
class FrozenPass:
    """What plain CLIP sees, which makes the dynamic prompts and is compared with siblings."""

    embedding: Tensor
    """[B, E] projected class embedding, not normalised."""
    tokens: tuple[Tensor, ...]
    """[B, N, D] patch tokens after each of ``AdaCLIP.reference_taps``: raw block outputs."""


@dataclass(frozen=True)
class Features:
    """What the two towers give for a batch; all float32."""

    class_embedding: Tensor
    """[B, E] projected class embedding of the prompted pass, unit length."""
    patch_embeddings: Tensor
    """[B, T, N, E] projected patch tokens of each tapped layer, unit length."""
    text_features: Tensor
    """[B, 2, E] normal and abnormal, unit length."""
    frozen: FrozenPass | None = None
    """What the pass without prompts saw, where that was asked for."""

    def layer_logits(self) -> Tensor:
        """[B, T, N, 2] normal and abnormal logits of every tapped layer."""
        return LOGIT_SCALE * self.patch_embeddings @ self.text_features[:, None].mT

    def logit_grid(self) -> Tensor:
        """[B, N] abnormal minus normal logit, mean over the tapped layers."""
        logits = self.layer_logits().mean(dim=1)
        return logits[..., 1] - logits[..., 0]


@dataclass(frozen=True)
class Prediction:
    """Anomaly scores of a batch; float32, on the model's device."""

    logit_grid: Tensor
    """[B, h, w] abnormal minus normal logit, mean over the tapped layers.
    The anomaly map is ``sigmoid(bilinear_resize(logit_grid, align_corners=True))``."""
    score: Tensor
    """[B] image-level abnormal probability in [0, 1]."""
    score_logit: Tensor
    """[B] the score before the sigmoid, which tells apart what rounds to 0 or 1."""
    frozen: FrozenPass | None = None
    """What references are compared with, where that was asked for."""


class AdaCLIP(nn.Module):
    """The model. Parameters outside ``clip`` carry the released checkpoints' names."""

    position_embedding: Tensor
    frozen_position_embedding: Tensor

    def __init__(
        self,
        clip: Any,
        settings: AdaCLIPSettings,
        *,
        name: str = "custom",
        pixels: Pixels = OPENAI_PIXELS,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Put new prompts and projections on a backbone.

        Args:
            clip: of ``build_clip``.
            settings: of the method.
            name: of the backbone.
            pixels: what its images are normalised with.
            options: of its configuration, that its weights don't show.
        """
        super().__init__()
        self.clip = clip
        self.settings = settings
        self.name = name
        self.pixels = pixels
        """Mean and standard deviation that images are normalised with."""
        self._options = dict(options or {})
        self.score_calibration: tuple[float, float] | None = None
        """Scale and shift of the score's logit that make the score a probability on a training
        run's held-out images; None, as the released weights have it: none."""
        self.recompute_activations = False
        """Training keeps only the tokens between the image tower's blocks, and computes the rest
        again on the way back: the same gradients, less memory, more time."""
        visual, text = clip.visual, text_tower(clip)
        patch_size, depth = int(patch_layer(visual).kernel_size[0]), len(self._blocks)
        _check(settings, patch_size, depth)
        self.grid = settings.image_size // patch_size
        self.num_prefix = num_prefix_tokens(visual)
        self.taps = [depth * (i + 1) // NUM_TAPS for i in range(NUM_TAPS)]
        self.reference_taps = self.taps[:NUM_REFERENCE_TAPS]
        self._register_positions("position_embedding", settings.image_size // patch_size)
        if settings.frozen_image_size is not None:
            grid = settings.frozen_image_size // patch_size
            self._register_positions("frozen_position_embedding", grid)
        image_width, embed_dim = patch_layer(visual).out_channels, embedding_width(text)
        text_width = text.token_embedding.embedding_dim
        length, prompted = settings.prompt_length, settings.prompt_depth
        self.visual_prompter = StaticPrompts(depth=prompted, length=length, width=image_width)
        self.text_prompter = StaticPrompts(depth=prompted, length=length, width=text_width)
        self.dynamic_visual_prompt_generator = Projections(embed_dim, image_width, length)
        self.dynamic_text_prompt_generator = Projections(embed_dim, text_width, length)
        self.patch_token_layer = Projections(image_width, embed_dim, NUM_TAPS)
        self.cls_token_layer = Projections(embed_dim, embed_dim, 1)

    def _register_positions(self, name: str, grid: int) -> None:
        places = position_embedding(self.clip.visual)
        resized = resize_position_embedding(places, grid, self.num_prefix)
        self.register_buffer(name, resized, persistent=False)

    @property
    def _blocks(self) -> Any:
        return blocks_of(self.clip.visual)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.position_embedding.device

    def learnable_state(self) -> dict[str, Tensor]:
        """AdaCLIP's own weights, without the backbone: what a checkpoint holds."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("clip.")}

    def fingerprint(self) -> str:
        """A readable name with a hash of all weights and of every setting that changes a score."""
        digest = hashlib.blake2b(digest_size=8)
        precision = str(self.position_embedding.dtype).removeprefix("torch.")
        # Options that came later count where they are used: without them, results are the old.
        used = {k: v for k, v in asdict(self.settings).items() if v is not None}
        own = self._options | ({} if self.pixels == OPENAI_PIXELS else self.pixels._asdict())
        own |= {"score_calibration": self.score_calibration} if self.score_calibration else {}
        told = [METHOD_VERSION, precision, used, *([own] if own else [])]
        digest.update(json.dumps(told).encode())
        for key, weight in sorted(self.state_dict().items()):
            digest.update(f"{key}{tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return f"{self.name}-{self.settings.image_size}-{precision}-{digest.hexdigest()}"

    @torch.inference_mode()
    def predict(
        self, images: Any, categories: Sequence[str], *, keep_frozen: bool = False
    ) -> Prediction:
        """Score a batch of images of any, also mixed, categories.

        Args:
            images: float32 [B, 3, H, W] tensor or array with H = W = ``settings.image_size``, RGB
                normalised with ``pixels`` (``pipeline.images.preprocess``).
            categories: B class names, such as "metal nut".
            keep_frozen: give what ``pipeline.references`` compares as well.

        Raises:
            ValueError: shapes that don't fit, or an empty class name.
        """
        return self.score(self(torch.as_tensor(images), categories, keep_frozen=keep_frozen))

    def forward(
        self, images: Tensor, categories: Sequence[str], *, keep_frozen: bool = False
    ) -> Features:
        """Both towers; arguments as in ``predict``. Gradients reach AdaCLIP's own weights."""
        self._check_batch(images, categories)
        images = images.to(self.device, self.position_embedding.dtype)
        tokens = embed_patches(self.clip.visual, images, self.position_embedding)
        kept: list[Tensor] | None = [] if keep_frozen else None
        with torch.no_grad():
            embedding = self.frozen_embedding(self.frozen_tokens(images, tokens), kept)
        visual, text = self.prompts(embedding)
        class_embedding, tapped = self.encode_image(tokens, visual)
        text_features = encode_text(self.clip, categories, text)
        frozen = None if kept is None else FrozenPass(embedding, tuple(kept))
        return Features(*self.project(class_embedding, tapped), text_features, frozen)

    @torch.inference_mode()
    def look(self, images: Any) -> FrozenPass:
        """The frozen pass alone, for images whose siblings are asked and no text: half the work.

        Args:
            images: as for ``predict``.
        """
        images = torch.as_tensor(images)
        self._check_images(images)
        images = images.to(self.device, self.position_embedding.dtype)
        tokens = embed_patches(self.clip.visual, images, self.position_embedding)
        kept: list[Tensor] = []
        embedding = self.frozen_embedding(self.frozen_tokens(images, tokens), kept)
        return FrozenPass(embedding, tuple(kept))

    def score(self, features: Features) -> Prediction:
        """Anomaly maps (section 3.2) and image scores (section 3.3) from the towers' features."""
        grid = features.logit_grid()
        image = features.class_embedding
        if self.settings.use_fusion:
            image = fuse(image, features.patch_embeddings, grid, self.settings.num_clusters)
        normal, abnormal = features.text_features.unbind(dim=1)
        logit = LOGIT_SCALE * (image * (abnormal - normal)).sum(dim=-1)
        if self.score_calibration is not None:
            scale, shift = self.score_calibration
            logit = scale * logit + shift
        grid = grid.unflatten(1, (self.grid, self.grid))
        return Prediction(grid, torch.sigmoid(logit), logit, features.frozen)

    def frozen_tokens(self, images: Tensor, tokens: Tensor) -> Tensor:
        """What enters the frozen pass: ``tokens``, or those of the images made smaller."""
        size = self.settings.frozen_image_size
        if size is None:
            return tokens
        images = F.interpolate(images.float(), (size, size), mode="bicubic", antialias=True)
        images = images.to(tokens.dtype)
        return embed_patches(self.clip.visual, images, self.frozen_position_embedding)

    def frozen_embedding(self, tokens: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """Plain CLIP: input tokens [B, P + N, D] → image embedding [B, E], not normalised.

        Args:
            kept: receives the patch tokens [B, N, D] after each of ``reference_taps``.
        """
        *blocks, last = self._blocks
        for j, block in enumerate(blocks, 1):
            tokens = run_block(block, tokens)
            if kept is not None and j in self.reference_taps:
                kept.append(tokens[:, self.num_prefix :])
        # Mostly only the class token leaves this pass, so the last block updates no other.
        asked = slice(1) if embeds_class_token(self.clip.visual) else slice(None)
        return embed_image(self.clip.visual, run_block(last, tokens, queries=asked))

    def prompts(self, frozen: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Visual and textual prompts [B, J, M, D] from the frozen class embedding [B, E]."""
        kind, towers = self.settings.prompt_kind, self.settings.prompted_towers

        def hybrid(static: StaticPrompts, generator: Projections, tower: str) -> Tensor | None:
            if towers not in ("both", tower):
                return None
            dynamic = generator.fan_out(frozen) if kind in ("both", "dynamic") else None
            use_static = kind in ("both", "static")
            return combine(static, dynamic, use_static=use_static, batch=len(frozen))

        return (
            hybrid(self.visual_prompter, self.dynamic_visual_prompt_generator, "visual"),
            hybrid(self.text_prompter, self.dynamic_text_prompt_generator, "text"),
        )

    def encode_image(self, tokens: Tensor, prompts: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """The prompted image pass.

        Args:
            tokens: [B, P + N, D] input tokens.
            prompts: [B, J, M, D]; those of block j replace the M last tokens before that block.

        Returns:
            Image embedding [B, E], not normalised, and T tapped patch tokens [B, N, D].
        """
        visual, length = self.clip.visual, tokens.shape[1]
        run = run_block
        if self.recompute_activations and torch.is_grad_enabled():
            run = partial(checkpoint, run_block, use_reentrant=False)
        tapped = []
        for j, block in enumerate(self._blocks):
            if prompts is not None and j < prompts.shape[1]:
                tokens = torch.cat([tokens[:, :length], prompts[:, j]], dim=1)
            tokens = run(block, tokens)
            if j + 1 in self.taps:
                tapped.append(tokens[:, self.num_prefix : length])
        return embed_image(visual, tokens[:, :length]), tapped

    def project(self, class_embedding: Tensor, tapped: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What ``encode_image`` returns → class embedding [B, E] and patch embeddings
        [B, T, N, E] of AdaCLIP's own projections, unit length, float32."""
        class_embedding = self.cls_token_layer.fan_out(class_embedding).squeeze(1)
        patch_embeddings = self.patch_token_layer.each(tapped)
        return (
            F.normalize(class_embedding.float(), dim=-1),
            F.normalize(patch_embeddings.float(), dim=-1),
        )

    def _check_images(self, images: Tensor) -> None:
        size = self.settings.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ValueError(f"images must be [B, 3, {size}, {size}], got {tuple(images.shape)}")

    def _check_batch(self, images: Tensor, categories: Sequence[str]) -> None:
        self._check_images(images)
        if isinstance(categories, str) or len(categories) != len(images):
            raise ValueError(f"need a list of {len(images)} categories, got {categories!r}")
        if any(not c.strip() for c in categories):
            raise ValueError("a category is empty; every image needs a class name")


def _check(settings: AdaCLIPSettings, patch_size: int, depth: int) -> None:
    for name in ("image_size", "frozen_image_size"):
        size = getattr(settings, name)
        if size is not None and (size <= 0 or size % patch_size):
            lower = max(size // patch_size, 1) * patch_size
            raise ValueError(
                f"{name}={size} is not a multiple of the backbone's patch size {patch_size}; "
                f"use {lower} or {lower + patch_size}"
            )
    if depth % NUM_TAPS:
        raise ValueError(f"the backbone has {depth} blocks; AdaCLIP taps every quarter of them")
    if not 1 <= settings.prompt_depth <= depth:
        raise ValueError(f"prompt_depth={settings.prompt_depth} must be within 1..{depth}")
    for name, kinds in (("prompt_kind", PromptKind), ("prompted_towers", PromptedTowers)):
        if (value := getattr(settings, name)) not in get_args(kinds):
            raise ValueError(f"{name} must be one of {', '.join(get_args(kinds))}, got {value!r}")
    if settings.prompt_length < 1 or settings.num_clusters < 1:
        raise ValueError("prompt_length and num_clusters must be at least 1")
