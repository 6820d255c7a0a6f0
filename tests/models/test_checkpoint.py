"""Weights in and out: round trips, everything that must be refused, and where files come from."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.models import AdaCLIP, load_adaclip, load_checkpoint, save_checkpoint
from pipeline.models import checkpoint as checkpoint_module
from pipeline.models.checkpoint import fetch, read_state_dict
from pipeline.models.clip import build_clip, clip_config
from tests import golden

# PyTorch warns of TorchScript's future and of pickles that it did not write.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
]

Files = Mapping[str, str]
SIZES = {"input_resolution": 112, "context_length": 77, "vocab_size": 49408}


@pytest.fixture(scope="module")
def model(golden_files: Files) -> AdaCLIP:
    """The golden model; tests leave its weights as they are."""
    return golden.load(golden_files)


@pytest.fixture
def blank() -> AdaCLIP:
    """A model of the golden architecture with random weights."""
    return load_adaclip(backbone=golden.BACKBONE, backbone_weights=None, image_size=168)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for downloaded weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def released_state(files: Files) -> dict[str, Tensor]:
    """The golden checkpoint's tensors, under the released keys."""
    state: dict[str, Tensor] = torch.load(files["checkpoint"], weights_only=True)
    return state


def write(folder: Path, state: Any, name: str = "checkpoint.pth") -> str:
    """A ``torch.save`` file."""
    torch.save(state, folder / name)
    return str(folder / name)


def torchscript(state: Mapping[str, Any], path: Path) -> str:
    """A TorchScript archive whose state dict is ``state``, as OpenAI published CLIP."""
    root = nn.Module()
    for key, value in state.items():
        *parents, last = key.split(".")
        module = root
        for name in parents:
            if not hasattr(module, name):
                module.add_module(name, nn.Module())
            module = module.get_submodule(name)
        module.register_buffer(last, torch.as_tensor(value))
    torch.jit.script(root).save(str(path))
    return str(path)


# --- round trips ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_saved_weights_come_back_bit_for_bit(
    model: AdaCLIP, blank: AdaCLIP, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / "new folder" / f"own{suffix}"
    save_checkpoint(model, path)
    load_checkpoint(blank, str(path))
    for key, weight in model.learnable_state().items():
        assert torch.equal(blank.learnable_state()[key], weight), key


def test_pth_files_have_the_released_keys(
    model: AdaCLIP, golden_files: Files, tmp_path: Path
) -> None:
    save_checkpoint(model, tmp_path / "own.pth")
    saved = torch.load(tmp_path / "own.pth", weights_only=True)
    assert saved.keys() == released_state(golden_files).keys()
    assert all(key.startswith("clip_model.") for key in saved)


def test_checkpoints_hold_nothing_of_the_backbone(model: AdaCLIP, tmp_path: Path) -> None:
    save_checkpoint(model, tmp_path / "own.safetensors")
    saved = load_file(tmp_path / "own.safetensors")
    assert saved.keys() == model.learnable_state().keys()
    assert not any(key.startswith("clip.") for key in saved)


def test_bf16_models_are_saved_in_fp32(golden_files: Files, tmp_path: Path) -> None:
    save_checkpoint(golden.load(golden_files, precision="bf16"), tmp_path / "own.safetensors")
    assert {v.dtype for v in load_file(tmp_path / "own.safetensors").values()} == {torch.float32}


def test_saving_replaces_a_file_and_leaves_no_other(model: AdaCLIP, tmp_path: Path) -> None:
    (tmp_path / "own.pth").write_bytes(b"old")
    save_checkpoint(model, tmp_path / "own.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["own.pth"]
    assert read_state_dict(tmp_path / "own.pth")


def test_another_suffix_is_refused(model: AdaCLIP, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.pth .* or \.safetensors"):
        save_checkpoint(model, tmp_path / "own.ckpt")
    assert not list(tmp_path.iterdir())


def test_checkpoints_without_the_released_prefix_load(
    model: AdaCLIP, golden_files: Files, tmp_path: Path
) -> None:
    path = write(tmp_path, {"state_dict": model.learnable_state()})
    assert golden.load({**golden_files, "checkpoint": path}).fingerprint() == model.fingerprint()


def test_random_weights_are_the_same_in_every_process_until_the_seed_changes() -> None:
    def fingerprint(seed: int) -> str:
        arguments = {"backbone_weights": None, "image_size": 112, "seed": seed}
        return load_adaclip(backbone=golden.BACKBONE, **arguments).fingerprint()

    torch.manual_seed(3)  # whatever went on before
    first = fingerprint(0)
    torch.manual_seed(4)
    assert fingerprint(0) == first != fingerprint(1)


def test_loading_leaves_the_callers_random_numbers_alone(golden_files: Files) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    golden.load({**golden_files, "checkpoint": None})
    assert torch.equal(torch.rand(3), expected)


# --- checkpoints that don't fit -------------------------------------------------------------


def test_a_missing_key_is_named(blank: AdaCLIP, golden_files: Files, tmp_path: Path) -> None:
    state = released_state(golden_files)
    del state["clip_model.cls_token_layer.head.0.bias"]
    with pytest.raises(ValueError, match=r"missing keys: cls_token_layer\.head\.0\.bias;"):
        load_checkpoint(blank, write(tmp_path, state))


def test_an_extra_key_is_named(blank: AdaCLIP, golden_files: Files, tmp_path: Path) -> None:
    state = {**released_state(golden_files), "clip_model.something.else": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"unexpected keys: something\.else"):
        load_checkpoint(blank, write(tmp_path, state))


def test_another_backbones_shapes_are_named(
    blank: AdaCLIP, golden_files: Files, tmp_path: Path
) -> None:
    state = released_state(golden_files)
    state["clip_model.cls_token_layer.head.0.weight"] = torch.zeros(768, 768)
    with pytest.raises(ValueError, match=r"head\.0\.weight is \[768, 768\].* needs \[64, 64\]"):
        load_checkpoint(blank, write(tmp_path, state))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"prompt_length": 6}, "prompt_generator.head.5"),
        ({"prompt_length": 4}, "prompt_generator.head.4"),
        ({"prompt_depth": 5}, "static_prompts.4"),
        ({"prompt_depth": 3}, "static_prompts.3"),
    ],
)
def test_other_prompts_are_named(golden_files: Files, settings: dict[str, int], key: str) -> None:
    with pytest.raises(ValueError, match=key.replace(".", r"\.")):
        golden.load(golden_files, **settings)


def test_a_refused_checkpoint_changes_nothing(
    blank: AdaCLIP, golden_files: Files, tmp_path: Path
) -> None:
    before = blank.fingerprint()
    state = released_state(golden_files)
    state["clip_model.cls_token_layer.head.0.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match="another backbone"):
        load_checkpoint(blank, write(tmp_path, state))
    assert blank.fingerprint() == before


# --- files that aren't weights --------------------------------------------------------------


@dataclasses.dataclass
class Malicious:
    """A pickle that makes a directory when it is loaded."""

    path: str

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
@pytest.mark.parametrize("plain_pickle", [True, False])
def test_a_malicious_pickle_is_refused_and_not_run(
    blank: AdaCLIP, tmp_path: Path, suffix: str, plain_pickle: bool
) -> None:
    path, proof = tmp_path / f"evil{suffix}", tmp_path / "it ran"
    content = {"clip_model.x": Malicious(str(proof))}
    if plain_pickle:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="can't be read as plain weights"):
        load_checkpoint(blank, str(path))
    assert not proof.exists()


GARBAGE = {
    "empty": b"",
    "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "html": b"<!DOCTYPE html><html>404</html>",
    "zeros": bytes(1000),
    "random": random.Random(0).randbytes(1000),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused(blank: AdaCLIP, tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"garbage.* can't be read as plain weights"):
        load_checkpoint(blank, str(path))


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "torchscript"])
def test_damaged_files_are_refused_or_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("whole.safetensors" if kind == "safetensors" else "whole.pth")
    state = {"a": torch.ones(3, 4), "b": torch.zeros(5)}
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "torchscript":
        torchscript(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    data, rng = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(20):
        damaged = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data)
        for _ in range(rng.choice([1, 4, 16]) if damaged else 0):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_state_dict(path)
        except ValueError:
            refused += 1
    assert refused > 2


@pytest.mark.parametrize(
    "content", [torch.zeros(3), [torch.zeros(3)], {"a": 1}, {1: torch.zeros(3)}, 7]
)
def test_anything_but_named_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ValueError, match="no state dict"):
        read_state_dict(Path(write(tmp_path, content)))


@pytest.mark.parametrize("argument", ["checkpoint", "backbone_weights"])
def test_a_missing_file_is_named(golden_files: Files, argument: str) -> None:
    with pytest.raises(ValueError, match=r"/nowhere/at_all\.pth.*no such file"):
        golden.load({**golden_files, argument: "/nowhere/at_all.pth"})


def test_a_directory_is_not_a_file(blank: AdaCLIP, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load_checkpoint(blank, str(tmp_path))


# --- URIs -----------------------------------------------------------------------------------


def test_weights_load_from_file_uris(golden_files: Files, model: AdaCLIP) -> None:
    uris = {k: f"file://{golden_files[k]}" for k in ("backbone_weights", "checkpoint")}
    assert golden.load({**golden_files, **uris}).fingerprint() == model.fingerprint()


def test_a_uri_is_downloaded_once_into_the_cache(cache: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/weights/once.pth", b"first")
    local = fetch("memory://weights/once.pth")
    assert local.read_bytes() == b"first"
    assert local.is_relative_to(cache / "adaclip-pipeline")
    assert local.name == "once.pth"
    local.write_bytes(b"from the cache")
    again = fetch("memory://weights/once.pth")
    assert again == local
    assert again.read_bytes() == b"from the cache"
    assert [path for path in cache.rglob("*") if path.is_file()] == [local]


def test_a_replaced_object_is_downloaded_again() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/weights/twice.pth", b"first")
    assert fetch("memory://weights/twice.pth").read_bytes() == b"first"
    memory.pipe_file("/weights/twice.pth", b"second, longer")
    assert fetch("memory://weights/twice.pth").read_bytes() == b"second, longer"


def test_files_of_one_name_in_two_places_do_not_collide() -> None:
    memory = fsspec.filesystem("memory")
    for folder in ("a", "b"):
        memory.pipe_file(f"/{folder}/same.pth", folder.encode())
    assert fetch("memory://a/same.pth").read_bytes() == b"a"
    assert fetch("memory://b/same.pth").read_bytes() == b"b"


@pytest.mark.parametrize(
    "uri", ["memory://missing.pth", "nosuchprotocol://x/y.pth", "file:///", "hf://only-owner"]
)
def test_a_uri_that_gives_nothing_is_named(uri: str) -> None:
    with pytest.raises(ValueError, match=uri):
        fetch(uri)


def test_storage_errors_of_any_kind_are_value_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCredentials(Exception):
        """As botocore's, which is no OSError."""

    def refuse(*_: Any) -> None:
        raise NoCredentials("Unable to locate credentials")

    monkeypatch.setattr(fsspec.filesystem("memory"), "ukey", refuse)
    with pytest.raises(ValueError, match=r"memory://x\.pth.*Unable to locate credentials"):
        fetch("memory://x.pth")


# --- released names -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mvtec_colondb", "visa_clinicdb", "all"])
def test_a_released_file_with_other_content_is_refused(
    blank: AdaCLIP, golden_files: Files, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked: list[tuple[Any, ...]] = []

    def download(repository: str, filename: str, *, revision: str) -> str:
        asked.append((repository, filename, revision))
        return golden_files["checkpoint"]

    monkeypatch.setattr(checkpoint_module, "hf_hub_download", download)
    with pytest.raises(ValueError, match=f"not the released checkpoint '{name}'.*sha256"):
        load_checkpoint(blank, name)
    revision = "16153b4ba74c2fe54a99679fc2e1b1e29993dc3f"
    assert asked == [("cubert-gmbh/adaclip", f"pretrained_{name}.pth", revision)]


def test_a_released_file_with_the_right_content_is_loaded(
    blank: AdaCLIP, model: AdaCLIP, golden_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = checkpoint_module.hashlib.sha256(Path(golden_files["checkpoint"]).read_bytes())
    monkeypatch.setitem(checkpoint_module.RELEASED, "all", digest.hexdigest())
    monkeypatch.setattr(
        checkpoint_module, "hf_hub_download", lambda *_, **__: golden_files["checkpoint"]
    )
    load_checkpoint(blank, "all")
    key = "cls_token_layer.head.0.weight"
    assert torch.equal(blank.learnable_state()[key], model.learnable_state()[key])


def test_offline_a_released_name_tells_what_to_do(
    blank: AdaCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: Any, **__: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(checkpoint_module, "hf_hub_download", offline)
    with pytest.raises(ValueError, match=r"no network.*give a path"):
        load_checkpoint(blank, "all")


# --- the backbone ---------------------------------------------------------------------------


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


OTHER_ARCHITECTURES = [
    "RN50",
    "convnext_base",  # timm
    "ViT-B-16-SigLIP",  # timm, own text tower
    "coca_ViT-B-32",
    "xlm-roberta-base-ViT-B-32",  # a Hugging Face text tower
    "ViT-L-14-CLIPA",  # no causal mask, average pooling, another tokenizer
    "ViT-H-14-worldwide",  # another tokenizer
]


@pytest.mark.parametrize("backbone", OTHER_ARCHITECTURES)
@pytest.mark.parametrize("weights", [None, "openai"])
def test_other_architectures_are_refused_before_any_download(
    backbone: str, weights: str | None
) -> None:
    with pytest.raises(ValueError, match=f"'{backbone}' is not an OpenAI-style ViT CLIP"):
        load_adaclip(backbone=backbone, backbone_weights=weights)


def test_every_accepted_architecture_uses_clips_own_tokenizer() -> None:
    accepted = {}
    for name in open_clip.list_models():
        with contextlib.suppress(ValueError):
            accepted[name] = clip_config(name)
    assert {"ViT-L-14-336", "ViT-B-16", "ViT-H-14"} <= accepted.keys()
    for name, config in accepted.items():
        assert "tokenizer" not in str(config), name
        assert "timm" not in str(config), name
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
