"""The fingerprint: the same for the same results, another for every weight and setting."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.models import AdaCLIP, AdaCLIPSettings
from tests import golden

Files = Mapping[str, str]
KINDS = ("both", "static", "dynamic", "none")
TOWERS = ("both", "visual", "text")


def test_fingerprint_is_stable_and_readable(model: AdaCLIP, golden_files: Files) -> None:
    assert golden.load(golden_files).fingerprint() == model.fingerprint()
    assert model.fingerprint().startswith(f"{Path(golden.BACKBONE).stem}-168-float32-")


def test_fingerprints_of_existing_outputs_stay(model: AdaCLIP, golden_files: Files) -> None:
    """Options that came later must not make a night's scan score everything again."""
    assert model.fingerprint() == "tiny_clip-168-float32-090fe78899f9d132"
    half = golden.load(golden_files, precision="bf16")
    assert half.fingerprint() == "tiny_clip-168-bfloat16-b2e29472d1c78273"


def test_predicting_does_not_change_the_fingerprint(golden_files: Files) -> None:
    model = golden.load(golden_files)
    before = model.fingerprint()
    model.predict(*golden.batch([0]))
    assert model.fingerprint() == before


@pytest.mark.slow
def test_fingerprint_changes_with_every_setting(model: AdaCLIP, golden_files: Files) -> None:
    changes: list[dict[str, Any]] = [
        {"image_size": 112},
        {"precision": "bf16"},
        {"num_clusters": 19},
        {"use_fusion": False},
        *({"prompt_kind": kind} for kind in KINDS[1:]),
        *({"prompted_towers": towers} for towers in TOWERS[1:]),
        {"frozen_image_size": 112},
        {"checkpoint": None},
        {"checkpoint": None, "seed": 1},
        {"checkpoint": None, "prompt_length": 4},
        {"checkpoint": None, "prompt_depth": 3},
        {"backbone_weights": None},
    ]
    found = [model.fingerprint()]
    found += [golden.load({**golden_files, **change}).fingerprint() for change in changes]
    assert len(set(found)) == len(found)


def test_every_setting_is_part_of_the_fingerprint_test() -> None:
    tested = {"image_size", "num_clusters", "use_fusion", "prompt_kind", "prompted_towers"}
    tested |= {"prompt_length", "prompt_depth", "frozen_image_size"}
    assert {field.name for field in dataclasses.fields(AdaCLIPSettings)} == tested


BACKBONE_WEIGHTS = (
    "clip.visual.class_embedding",
    "clip.visual.positional_embedding",
    "clip.visual.transformer.resblocks.7.mlp.c_proj.bias",
    "clip.token_embedding.weight",
    "clip.text_projection",
)


def test_fingerprint_changes_with_any_weight_by_one_bit(golden_files: Files) -> None:
    model = golden.load(golden_files)
    before = model.fingerprint()
    weights = dict(model.named_parameters())
    own = list(model.learnable_state())
    for name in (*own, *BACKBONE_WEIGHTS):
        last = weights[name].detach().flatten()[-1:]
        value = last.clone()
        last.copy_(torch.nextafter(value, value + 1))
        assert model.fingerprint() != before, name
        last.copy_(value)
    assert model.fingerprint() == before
