"""The backbone: which are accepted, and the files its weights come in."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.models import AdaCLIP, load_adaclip
from pipeline.models.clip import build_clip
from pipeline.models.configuration import clip_config
from pipeline.models.weight_files import read_state_dict
from tests import golden

from .weights import torchscript, write

# PyTorch warns of TorchScript's future and of pickles that it did not write.
pytestmark = [
    pytest.mark.usefixtures("cache"),
    pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
]

Files = Mapping[str, str]
SIZES = {"input_resolution": 112, "context_length": 77, "vocab_size": 49408}


def test_an_unknown_tag_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'laion9b' for 'ViT-L-14-336' .*it has: openai"):
        load_adaclip(backbone_weights="laion9b")


@pytest.mark.parametrize("weights", [None, "openai"])
def test_an_unknown_backbone_is_named(weights: str | None) -> None:
    with pytest.raises(ValueError, match="unknown backbone 'ViT-L-14-337'"):
        load_adaclip(backbone="ViT-L-14-337", backbone_weights=weights)


def test_a_missing_configuration_is_named() -> None:
    with pytest.raises(ValueError, match=r"'nowhere\.json' does not exist"):
        load_adaclip(backbone="nowhere.json", backbone_weights=None)


OTHER_ARCHITECTURES = {
    "RN50": r"vision_cfg\.layers is \[3",
    "convnext_base": r"vision_cfg\.timm_model_name is",
    "ViT-B-16-SigLIP": r"text_cfg\.hf_tokenizer_name is",
    "coca_ViT-B-32": "multimodal_cfg is",
    "xlm-roberta-base-ViT-B-32": r"text_cfg\.hf_model_name is",
    "ViT-L-14-CLIPA": r"text_cfg\.hf_tokenizer_name is",
    "ViT-H-14-worldwide": r"text_cfg\.hf_tokenizer_name is",
}


@pytest.mark.parametrize("backbone", OTHER_ARCHITECTURES)
@pytest.mark.parametrize("weights", [None, "openai"])
def test_other_architectures_are_refused_before_any_download(
    backbone: str, weights: str | None
) -> None:
    key = OTHER_ARCHITECTURES[backbone]
    with pytest.raises(ValueError, match=f"'{backbone}' can't be taken: {key}"):
        load_adaclip(backbone=backbone, backbone_weights=weights)


def test_every_accepted_architecture_uses_clips_own_tokenizer() -> None:
    accepted = {}
    for name in open_clip.list_models():
        if "timm_model_name" not in open_clip.get_model_config(name)["vision_cfg"]:
            with contextlib.suppress(ValueError):
                accepted[name] = clip_config(name)
    assert {"ViT-L-14-336", "ViT-B-16", "ViT-H-14"} <= accepted.keys()
    for name, config in accepted.items():
        assert "tokenizer" not in str(config), name
        assert config["text_cfg"]["vocab_size"] == 49408, name


def test_backbone_weights_of_another_architecture_are_refused(golden_files: Files) -> None:
    state = load_file(golden_files["backbone_weights"])
    wider = {**state, "visual.proj": torch.zeros(128, 512)}
    with pytest.raises(ValueError, match=r"do not fit .*visual\.proj"):
        build_clip(golden.BACKBONE, wider)
    del state["text_projection"]
    with pytest.raises(ValueError, match=r"do not fit .*text_projection"):
        build_clip(golden.BACKBONE, state)


def test_backbone_weights_load_from_a_torchscript_archive_like_openais(
    golden_files: Files, model: AdaCLIP, tmp_path: Path
) -> None:
    state = load_file(golden_files["backbone_weights"])
    path = torchscript({**state, **SIZES}, tmp_path / "ViT-tiny.pt")
    assert read_state_dict(Path(path)).keys() == {*state, *SIZES}
    loaded = golden.load({**golden_files, "backbone_weights": path})
    assert loaded.fingerprint() == model.fingerprint()


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state}])
def test_backbone_weights_load_from_torch_save_files(
    golden_files: Files, model: AdaCLIP, tmp_path: Path, wrap: Any
) -> None:
    path = write(tmp_path, wrap(load_file(golden_files["backbone_weights"])), "backbone.pt")
    loaded = golden.load({**golden_files, "backbone_weights": path})
    assert loaded.fingerprint() == model.fingerprint()


def test_half_precision_backbone_weights_run_in_fp32(golden_files: Files, tmp_path: Path) -> None:
    state = {k: v.half() for k, v in load_file(golden_files["backbone_weights"]).items()}
    path = write(tmp_path, state, "backbone.pt")
    loaded = golden.load({**golden_files, "backbone_weights": path})
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


@pytest.mark.parametrize("backbone", ["ViT-S-32-alt", "ViT-B-32-quickgelu", golden.BACKBONE])
def test_the_activation_is_always_the_exact_gelu(backbone: str) -> None:
    with torch.device("meta"):
        clip = open_clip.CLIP(**clip_config(backbone))
    activations = [m for n, m in clip.named_modules() if n.endswith("mlp.gelu")]
    assert len(activations) == len(clip.visual.transformer.resblocks) + len(
        clip.transformer.resblocks
    )
    assert {type(m) for m in activations} == {nn.GELU}
    assert {m.approximate for m in activations} == {"none"}
