"""Backbones beyond OpenAI's: what is taken runs as open_clip runs it, what isn't is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from pipeline.images import MEAN, STD, preprocess
from pipeline.models import AdaCLIP, load_adaclip
from pipeline.models.configuration import clip_config, new_clip, pixels_of
from pipeline.models.text import NUM_NORMAL, encode_text, sentences
from tests import golden

from .predictions import tokenizer

TINY: dict[str, Any] = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 56, "patch_size": 14, "layers": 4, "width": 64, "head_width": 32},
    "text_cfg": {"width": 32, "heads": 4, "layers": 2},
}
CUSTOM_BLOCKS = dict.fromkeys(
    ("qk_norm", "scale_heads", "scale_attn", "scale_attn_inner", "scale_fc"), True
)
TANH = {"act_kwargs": {"approximate": "tanh"}}


def own(tmp_path: Path, name: str = "own", /, **changes: Any) -> str:
    """A JSON file of the tiny configuration, with changes to its parts."""
    config = json.loads(json.dumps(TINY))
    for key, value in changes.items():
        config[key] = {**config[key], **value} if key in ("vision_cfg", "text_cfg") else value
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(config))
    return str(path)


def timm(name: str, **more: Any) -> dict[str, Any]:
    """A configuration whose image tower timm makes."""
    return {"vision_cfg": {"timm_model_name": name, "timm_pool": "", **more}}


def load(backbone: str, tmp_path: Path, size: int = 56, **settings: Any) -> AdaCLIP:
    """The backbone with weights of which none is 0 or 1, from a file, and without prompts."""
    torch.manual_seed(0)
    clip = new_clip(clip_config(backbone))
    state = {k: v + 0.05 * torch.randn_like(v) for k, v in clip.state_dict().items()}
    weights = str(tmp_path / "weights.safetensors")
    save_file(state, weights)
    return load_adaclip(
        backbone=backbone,
        backbone_weights=weights,
        image_size=size,
        prompt_kind="none",
        prompt_depth=1,
        **settings,
    )


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"vision_cfg": {"no_ln_pre": True}}, 56),
        ({"vision_cfg": {"pool_type": "avg"}}, 56),
        ({"vision_cfg": {"pool_type": "avg", "final_ln_after_pool": True}}, 56),
        ({"vision_cfg": {"pos_embed_type": "sin_cos_2d", "ls_init_value": 0.1}}, 56),
        ({"vision_cfg": CUSTOM_BLOCKS, "text_cfg": CUSTOM_BLOCKS}, 56),
        ({"vision_cfg": {"block_type": "custom"}, "custom_text": True}, 56),
        ({"vision_cfg": TANH, "text_cfg": TANH}, 56),
        ({"text_cfg": {"proj_bias": True}, "init_logit_bias": -10}, 56),
        ({"text_cfg": {"proj_type": "none", "width": 48}, "custom_text": True}, 56),
        (timm("test_vit2"), 160),  # a register and no class token
        (timm("vit_tiny_patch16_224", timm_pool="avg", timm_proj="mlp"), 224),
        (
            timm("vit_tiny_patch16_224", timm_pool="token", timm_proj="") | {"custom_text": True},
            224,
        ),
        (timm("test_vit2", timm_pool="avg", timm_proj_bias=True), 160),
    ],
    ids=str,
)
def test_what_is_taken_gives_the_features_of_open_clip(
    tmp_path: Path, changes: dict[str, Any], size: int
) -> None:
    model = load(own(tmp_path, **changes), tmp_path, size)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = model.clip.visual.forward_intermediates(images, output_fmt="NLC")
        frozen, features = model.look(images), model(images, ["metal nut"] * 2)
        embedding = model.clip.encode_image(images)
        close(frozen.embedding, embedding)
        head = model.cls_token_layer.head[0]
        close(features.class_embedding, F.normalize(head(embedding), dim=-1))
        tapped = [theirs["image_intermediates"][j - 1] for j in model.taps]
        for ours, block in zip(frozen.tokens, tapped, strict=False):
            close(ours, block)
        for i, (each, block) in enumerate(zip(model.patch_token_layer.head, tapped, strict=True)):
            close(features.patch_embeddings[:, i], F.normalize(each(block), dim=-1))
        words = F.normalize(model.clip.encode_text(tokenizer()(sentences("metal nut"), 77)), dim=-1)
        states = [part.mean(dim=0) for part in (words[:NUM_NORMAL], words[NUM_NORMAL:])]
        close(encode_text(model.clip, ["metal nut"], None)[0], F.normalize(torch.stack(states)))


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal but for the order of sums."""
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_prompts_change_what_a_timm_tower_sees_and_its_grid_fits_any_size(tmp_path: Path) -> None:
    backbone = own(tmp_path, **timm("test_vit2"))
    arguments = {"backbone": backbone, "backbone_weights": None, "image_size": 64}
    images = torch.randn(2, 3, 64, 64)
    prompted = load_adaclip(**arguments, prompt_depth=8).predict(images, ["nut", "bolt"])
    assert prompted.logit_grid.shape == (2, 4, 4)
    plain = load_adaclip(**arguments, prompt_depth=8, prompt_kind="none")
    assert not torch.equal(prompted.score, plain.predict(images, ["nut", "bolt"]).score)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"vision_cfg": {"layers": [3, 4, 6, 3]}},
            r"vision_cfg\.layers is \[3, 4, 6, 3\]; a ResNet",
        ),
        ({"vision_cfg": {"attentional_pool": True}}, r"vision_cfg\.attentional_pool is True"),
        ({"vision_cfg": {"pool_type": "none"}}, r"vision_cfg\.pool_type is 'none'; possible: tok"),
        (
            {"vision_cfg": {"patch_size": [14, 7]}},
            r"vision_cfg\.patch_size is \[14, 7\]; .*squares",
        ),
        ({"vision_cfg": {"scaled_cosine_attn": True}}, r"scaled_cosine_attn is True"),
        ({"vision_cfg": {"patchsize": 14}}, r"vision_cfg\.patchsize is 14; open_clip knows no"),
        ({"text_cfg": {"no_causal_mask": True}}, r"text_cfg\.no_causal_mask is True"),
        ({"text_cfg": {"pool_type": "last"}}, r"text_cfg\.pool_type is 'last'; .*end-of-text"),
        ({"text_cfg": {"hf_tokenizer_name": "bert"}}, r"hf_tokenizer_name is 'bert'; .*own token"),
        ({"text_cfg": {"vocab_size": 32000}}, r"text_cfg\.vocab_size is 32000"),
        ({"text_cfg": {"proj_type": "none"}}, r"embed_dim is 48, .* text \(32,\)"),
        ({"multimodal_cfg": {"layers": 1}}, r"multimodal_cfg is"),
        ({"colour": "red"}, r"colour is 'red'; no such key"),
        (timm("resnet18"), r"timm_model_name is 'resnet18'; of timm's models, only plain ViTs"),
        (timm("eva02_tiny_patch14_224"), r"timm_model_name is 'eva02_tiny_patch14_224'"),
        (timm("vit_tiny_patch17"), r"timm_model_name 'vit_tiny_patch17': Unknown model"),
        (timm("hf-hub:timm/vit"), r"timm_model_name is 'hf-hub:timm/vit'; weights come from"),
        (timm("test_vit2", timm_pool="map"), r"can't be built with vision_cfg\.timm_model_name"),
        (
            timm("test_vit2", timm_pool="avg", timm_proj="none"),
            r"embed_dim is 48, but an image gives \(64,\)",
        ),
        ({"preprocess_cfg": {"mean": [0.5, 0.5]}}, r"preprocess_cfg\.mean is \[0\.5, 0\.5\]"),
        ({"preprocess_cfg": {"std": [0.5, 0, 0.5]}}, r"preprocess_cfg\.std is .*positive"),
    ],
    ids=str,
)
def test_what_cannot_be_taken_is_named_by_its_key(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        load_adaclip(backbone=own(tmp_path, **changes), backbone_weights=None, image_size=56)


def test_a_published_open_clip_config_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "open_clip_config.json"
    pixels = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic"}
    path.write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": pixels}))
    model = load_adaclip(backbone=str(path), backbone_weights=None, image_size=56)
    assert model.pixels == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    red = preprocess(golden.image_bytes(0), 56, *model.pixels)[0]
    values = preprocess(golden.image_bytes(0), 56)[0] * STD[0] + MEAN[0]
    np.testing.assert_allclose(red, (values - 0.5) / 0.2, atol=1e-5)


def test_pixels_are_those_of_open_clips_tag() -> None:
    assert pixels_of("ViT-L-14-336", "openai") == (MEAN, STD)
    assert pixels_of("ViT-L-14", "laion2b_s32b_b82k") == ((0.5,) * 3, (0.5,) * 3)
    assert pixels_of("ViT-L-14", "s3://bucket/weights.pt") == (MEAN, STD)
    assert pixels_of("ViT-L-14", None) == (MEAN, STD)


def test_what_weights_do_not_show_changes_the_fingerprint(tmp_path: Path) -> None:
    """All of one name and the same random weights."""

    def fingerprint(folder: str, **changes: Any) -> str:
        (tmp_path / folder).mkdir()
        backbone = own(tmp_path / folder, **changes)
        return load_adaclip(backbone=backbone, backbone_weights=None, image_size=56).fingerprint()

    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    found = [
        fingerprint("plain"),
        fingerprint("pixels", preprocess_cfg=half),
        fingerprint("pool", vision_cfg={"pool_type": "avg"}),
        fingerprint("tanh", text_cfg=TANH),
        fingerprint("both", vision_cfg={"pool_type": "avg"}, preprocess_cfg=half),
    ]
    assert len(set(found)) == len(found)
    told = {"preprocess_cfg": {"mean": list(MEAN), "std": list(STD)}}
    assert fingerprint("told", **told) == found[0]
