"""The switches of the method: prompts, towers, fusion, the size of the frozen pass."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.images import preprocess
from pipeline.models import AdaCLIP, Features
from pipeline.models.text import ABNORMAL_STATES, NORMAL_STATES, TEMPLATES, encode_text
from tests import golden

from .predictions import LONG_NAME, assert_close, assert_identical, tokenizer

Files = Mapping[str, str]
ALL = list(range(len(golden.CASES)))
EXACT = 1e-5  # where a batch may be summed in another order
KINDS = ("both", "static", "dynamic", "none")
TOWERS = ("both", "visual", "text")


def plain_clip(golden_files: Files) -> Any:
    """The backbone as open_clip itself builds and runs it."""
    clip = open_clip.CLIP(
        embed_dim=64,
        vision_cfg={"image_size": 112, "layers": 8, "width": 128, "patch_size": 14},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 6},
        quick_gelu=False,
    )
    clip.load_state_dict(load_file(golden_files["backbone_weights"]))
    return clip.eval()


def plain_text_features(clip: Any, category: str) -> Tensor:
    """[2, E] normal and abnormal, by open_clip's own text tower."""
    rows = []
    for states in (NORMAL_STATES, ABNORMAL_STATES):
        texts = [t.format(s.format(category)) for s in states for t in TEMPLATES]
        features = F.normalize(clip.encode_text(tokenizer()(texts, 77)), dim=-1)
        rows.append(F.normalize(features.mean(dim=0), dim=-1))
    return torch.stack(rows)


def zero(module: nn.Module) -> None:
    """Set all parameters to zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()


@pytest.mark.slow
def test_every_combination_of_switches_runs_and_matters(golden_files: Files) -> None:
    batch = golden.batch([0])
    grids: dict[tuple[str, str], Tensor] = {}
    for kind, towers in product(KINDS, TOWERS):
        settings = {"prompt_kind": kind, "prompted_towers": towers}
        fused = golden.load(golden_files, **settings, use_fusion=True).predict(*batch)
        plain = golden.load(golden_files, **settings, use_fusion=False).predict(*batch)
        assert fused.logit_grid.isfinite().all()
        assert fused.score.isfinite().all()
        assert plain.score.isfinite().all()
        assert torch.equal(fused.logit_grid, plain.logit_grid)
        assert abs(fused.score - plain.score) > 1e-6
        grids[kind, towers] = fused.logit_grid
    for (one, grid), (other, another) in product(grids.items(), repeat=2):
        same = one == other or (one[0] == other[0] == "none")  # without prompts, no tower has any
        assert torch.equal(grid, another) == same, (one, other)


def test_without_prompts_the_text_features_are_plain_clips(golden_files: Files) -> None:
    names = ["metal nut", "pcb", LONG_NAME.strip().replace("-", " ")]
    images = torch.zeros(3, 3, golden.IMAGE_SIZE, golden.IMAGE_SIZE)
    with torch.no_grad():
        ours = golden.load(golden_files, prompt_kind="none")(images, names).text_features
        expected = torch.stack(
            [plain_text_features(plain_clip(golden_files), name) for name in names]
        )
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_without_prompts_the_image_features_are_plain_clips(golden_files: Files) -> None:
    native = 112  # at the backbone's own size no position embedding is resized
    model = golden.load(golden_files, prompt_kind="none", image_size=native)
    images = torch.from_numpy(np.stack([preprocess(golden.image_bytes(i), native) for i in ALL]))
    clip, blocks = plain_clip(golden_files), {}
    for j, block in enumerate(clip.visual.transformer.resblocks, start=1):
        block.register_forward_hook(lambda _, __, out, j=j: blocks.update({j: out}))
    with torch.no_grad():
        features: Features = model(images, ["nut"] * len(images))
        head = model.cls_token_layer.head[0]
        class_embedding = F.normalize(head(clip.encode_image(images)), dim=-1)
        torch.testing.assert_close(features.class_embedding, class_embedding, rtol=0, atol=1e-5)
        for i, j in enumerate((2, 4, 6, 8)):
            patches = F.normalize(model.patch_token_layer.head[i](blocks[j][:, 1:]), dim=-1)
            torch.testing.assert_close(features.patch_embeddings[:, i], patches, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_both_kinds_with_one_of_them_zero_are_the_other_kind(
    golden_files: Files, kind: str
) -> None:
    both, single = golden.load(golden_files), golden.load(golden_files, prompt_kind=kind)
    if kind == "static":
        zero(both.dynamic_visual_prompt_generator)
        zero(both.dynamic_text_prompt_generator)
    else:
        zero(both.visual_prompter)
        zero(both.text_prompter)
    batch = golden.batch([0, 1])
    assert_close(both.predict(*batch), single.predict(*batch), 1e-6)


def test_a_tower_without_prompts_ignores_its_prompts(golden_files: Files) -> None:
    batch = golden.batch([0])
    for towers, unused in (("visual", "text"), ("text", "visual")):
        model = golden.load(golden_files, prompted_towers=towers)
        before = model.predict(*batch)
        zero(getattr(model, f"{unused}_prompter"))
        zero(getattr(model, f"dynamic_{unused}_prompt_generator"))
        assert_identical(model.predict(*batch), before)


def test_prompts_of_depth_one_never_reach_the_text(golden_files: Files) -> None:
    settings = {"checkpoint": None, "prompt_depth": 1}
    batch = golden.batch([0, 1])
    with torch.no_grad():
        prompted: Features = golden.load({**golden_files, **settings})(*batch)
        plain: Features = golden.load({**golden_files, **settings}, prompt_kind="none")(*batch)
    torch.testing.assert_close(prompted.text_features, plain.text_features, rtol=0, atol=1e-5)
    assert not torch.allclose(prompted.class_embedding, plain.class_embedding, atol=1e-4)


@pytest.mark.parametrize("depth", [2, 7, 8])
def test_prompts_may_be_as_deep_as_the_towers(golden_files: Files, depth: int) -> None:
    model = golden.load({**golden_files, "checkpoint": None}, prompt_depth=depth, prompt_length=3)
    assert model.predict(*golden.batch([0])).score.isfinite().all()


def test_shared_prefix_equals_the_text_tower_run_in_full(model: AdaCLIP) -> None:
    """Every sentence in full, as the released code runs it, without what the method shares."""
    clip, length = model.clip, model.settings.prompt_length
    prompts = torch.randn(1, 4, length, 64, generator=torch.Generator().manual_seed(0))
    texts = [t.format(s.format("nut")) for s in NORMAL_STATES + ABNORMAL_STATES for t in TEMPLATES]
    ids = tokenizer()(texts, 77)
    with torch.no_grad():
        x = clip.token_embedding(ids) + clip.positional_embedding
        for j, block in enumerate(clip.transformer.resblocks):
            if 1 <= j < 4:
                x = torch.cat([x[:, :1], prompts[:, j].expand(48, -1, -1), x[:, 1 + length :]], 1)
            x = block(x, attn_mask=clip.attn_mask)
        at_end = clip.ln_final(x)[torch.arange(48), ids.argmax(-1)] @ clip.text_projection
        features = F.normalize(at_end, dim=-1)
        normal, abnormal = features[:28].mean(0), features[28:].mean(0)
        expected = F.normalize(torch.stack([normal, abnormal]), dim=-1)
        ours = encode_text(clip, ["nut"], prompts)[0]
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


# --- options that change results -----------------------------------------------------------


def test_a_smaller_frozen_pass_is_plain_clip_at_that_size(golden_files: Files) -> None:
    model = golden.load(golden_files, frozen_image_size=112)
    images, names = golden.batch([0, 1])
    small = F.interpolate(images, (112, 112), mode="bicubic", antialias=True)
    with torch.no_grad():
        frozen = model.frozen_embedding(model.frozen_tokens(images, torch.empty(0)))
        expected = plain_clip(golden_files).encode_image(small)
    torch.testing.assert_close(frozen, expected, rtol=0, atol=2e-5)
    assert not torch.equal(
        model.predict(images, names).score, golden.load(golden_files).predict(images, names).score
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_frozen_pass_at_the_images_own_size_is_the_default(
    golden_files: Files, precision: str
) -> None:
    batch = golden.batch([2, 3])
    same = golden.load(golden_files, precision=precision, frozen_image_size=golden.IMAGE_SIZE)
    default = golden.load(golden_files, precision=precision)
    assert_close(same.predict(*batch), default.predict(*batch), EXACT)
