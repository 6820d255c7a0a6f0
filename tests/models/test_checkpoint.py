"""Checkpoints: round trips, what does not fit, and files that are no weights."""

from __future__ import annotations

import dataclasses
import os
import pickle
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.models import AdaCLIP, load_adaclip, load_checkpoint, save_checkpoint
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


def released_state(files: Files) -> dict[str, Tensor]:
    """The golden checkpoint's tensors, under the released keys."""
    state: dict[str, Tensor] = torch.load(files["checkpoint"], weights_only=True)
    return state


# --- round trips ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_calibration_comes_back_and_counts(
    golden_files: Files, tmp_path: Path, suffix: str
) -> None:
    model, plain = golden.load(golden_files), golden.load(golden_files)
    model.score_calibration = (0.25, -1.5)
    path = tmp_path / f"own{suffix}"
    save_checkpoint(model, path)
    load_checkpoint(plain, str(path))
    assert plain.score_calibration == (0.25, -1.5)
    assert plain.fingerprint() == model.fingerprint() != golden.load(golden_files).fingerprint()
    images, categories = golden.batch([0, 1])
    before = golden.load(golden_files).predict(images, categories)
    after = plain.predict(images, categories)
    torch.testing.assert_close(after.score_logit, 0.25 * before.score_logit - 1.5)
    torch.testing.assert_close(after.score, after.score_logit.sigmoid())
    assert torch.equal(after.logit_grid, before.logit_grid)


def test_a_checkpoint_without_a_calibration_ends_the_one_before(
    model: AdaCLIP, golden_files: Files, tmp_path: Path
) -> None:
    save_checkpoint(model, tmp_path / "own.pth")
    other = golden.load(golden_files)
    other.score_calibration = (2.0, 0.0)
    load_checkpoint(other, str(tmp_path / "own.pth"))
    assert other.score_calibration is None


def test_a_calibration_that_turns_the_order_is_refused(golden_files: Files, tmp_path: Path) -> None:
    model = golden.load(golden_files)
    model.score_calibration = (-1.0, 0.0)
    save_checkpoint(model, tmp_path / "own.pth")
    with pytest.raises(ValueError, match=r"score_calibration is \[-1.0, 0.0\]"):
        load_checkpoint(model, str(tmp_path / "own.pth"))


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


WRAPPED = {
    "open_clip's training": lambda state: {
        "epoch": 3,
        "name": "x",
        "state_dict": prefixed(state, "module."),
    },
    "torch.compile": lambda state: prefixed(state, "_orig_mod."),
    "both": lambda state: {"model": prefixed(state, "module._orig_mod.")},
    "model": lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}},
    "model_state_dict": lambda state: {"epoch": 3, "model_state_dict": state},
    "Lightning": lambda state: {"state_dict": prefixed(state, "net.")},
    "nested": lambda state: {"model": {"state_dict": prefixed(state, "module.")}},
}


def prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": weight for key, weight in state.items()}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("argument", ["checkpoint", "backbone_weights"])
def test_what_training_scripts_save_is_unwrapped(
    argument: str, wrap: Any, model: AdaCLIP, golden_files: Files, tmp_path: Path
) -> None:
    path = Path(golden_files[argument])
    path = Path(write(tmp_path, wrap(read_state_dict(path))))
    loaded = golden.load({**golden_files, argument: str(path)})
    assert loaded.fingerprint() == model.fingerprint()


@pytest.mark.parametrize("name", ["last.ckpt", "best.pth.tar", "weights", "v1.2", "openai.bin"])
@pytest.mark.parametrize("argument", ["checkpoint", "backbone_weights"])
@pytest.mark.parametrize("safe", [False, True])
def test_a_file_of_any_name_is_a_file(
    argument: str, name: str, safe: bool, golden_files: Files, tmp_path: Path, model: AdaCLIP
) -> None:
    state = read_state_dict(Path(golden_files[argument]))
    if safe:
        save_file({key: weight.contiguous() for key, weight in state.items()}, tmp_path / name)
    else:
        write(tmp_path, state, name)
    loaded = golden.load({**golden_files, argument: str(tmp_path / name)})
    assert loaded.fingerprint() == model.fingerprint()


def test_a_file_beside_the_job_needs_no_folder(
    golden_files: Files, tmp_path: Path, model: AdaCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(golden_files["backbone_weights"], tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    loaded = golden.load({**golden_files, "backbone_weights": "weights"})
    assert loaded.fingerprint() == model.fingerprint()
    with pytest.raises(ValueError, match=r"gone\.ckpt.*no such file"):
        golden.load({**golden_files, "backbone_weights": "gone.ckpt"})


# --- checkpoints that don't fit ------------------------------------------------------------------


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


@pytest.mark.parametrize("argument", ["checkpoint", "backbone_weights"])
def test_keys_that_do_not_fit_are_a_few_of_each_side(
    argument: str, golden_files: Files, tmp_path: Path
) -> None:
    state = read_state_dict(Path(golden_files[argument]))
    other = {f"layer{i}.{key}": weight for i, (key, weight) in enumerate(state.items())}
    with pytest.raises(ValueError, match=r"missing keys: .* and .* more") as caught:
        golden.load({**golden_files, argument: write(tmp_path, other)})
    message = str(caught.value)
    assert "unexpected keys: layer" in message
    assert len(message) < 1000


def test_the_shape_that_does_not_fit_is_named(golden_files: Files, tmp_path: Path) -> None:
    state = read_state_dict(Path(golden_files["backbone_weights"]))
    state["visual.proj"] = torch.zeros(3, 5)
    with pytest.raises(ValueError, match=r"do not fit .*visual\.proj is \[3, 5\], the model needs"):
        golden.load({**golden_files, "backbone_weights": write(tmp_path, state)})


# --- files that aren't weights -------------------------------------------------------------------


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
