"""The stages are the model's own, their FLOPs are right, and the floor is open_clip."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from pipeline.benchmark.stages import STAGES, count_flops, plain_pass, run_stages
from pipeline.models import AdaCLIP, load_adaclip
from tests import golden

Result = TypeVar("Result")


@pytest.fixture(scope="module")
def model(golden_files: Mapping[str, str]) -> AdaCLIP:
    return golden.load(golden_files)


class Listener:
    """A watch that only notes which stages there were."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def __call__(self, stage: str, function: Callable[[], Result]) -> Result:
        self.stages.append(stage)
        return function()


def test_the_stages_together_are_predict(model: AdaCLIP) -> None:
    images, names = golden.batch([0, 2])
    listener = Listener()
    with torch.inference_mode():
        staged = run_stages(model, images, names, listener)
    whole = model.predict(images, names)
    assert torch.equal(staged.score, whole.score)
    assert torch.equal(staged.logit_grid, whole.logit_grid)
    assert tuple(listener.stages) == STAGES


def test_without_fusion_there_is_no_stage_of_it(golden_files: Mapping[str, str]) -> None:
    listener = Listener()
    model = golden.load(golden_files, use_fusion=False)
    with torch.inference_mode():
        run_stages(model, *golden.batch([0]), listener)
    assert tuple(listener.stages) == STAGES[:-1]


def test_a_plain_pass_is_the_frozen_pass(model: AdaCLIP) -> None:
    """At AdaCLIP's size, with its position embedding: else the floor is another model's."""
    images, _ = golden.batch([1])
    recorded = golden.values()["1/frozen_embedding"]
    with torch.inference_mode():
        found = plain_pass(model, images)[0]
    torch.testing.assert_close(found, torch.from_numpy(recorded), rtol=0, atol=2e-5)


def test_a_plain_pass_of_a_timm_tower_is_the_frozen_pass(tmp_path: Path) -> None:
    backbone = tmp_path / "timm.json"
    vision = {"timm_model_name": "test_vit2", "timm_pool": ""}
    text = {"width": 32, "heads": 2, "layers": 1}
    backbone.write_text(json.dumps({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}))
    made = load_adaclip(backbone=str(backbone), backbone_weights=None, image_size=64)
    images = torch.randn(2, 3, 64, 64)
    found = plain_pass(made, images)
    torch.testing.assert_close(found, made.look(images).embedding, rtol=0, atol=1e-5)


def test_flops_of_the_frozen_pass_are_those_of_its_products(model: AdaCLIP) -> None:
    images, names = golden.batch([0, 0])
    model.predict(images, names)
    flops = count_flops(lambda watch: run_stages(model, images, names, watch))
    tokens, width, depth = 1 + 12 * 12, 128, 8
    weights = 12 * width**2  # of a block: attention 4, MLP 8 times the width squared
    block = 2 * tokens * weights + 2 * 2 * tokens**2 * width
    last = 2 * (tokens * 2 + 2 + 8) * width**2 + 2 * 2 * tokens * width
    projection = 2 * width * 64
    assert flops["frozen pass"] == 2 * ((depth - 1) * block + last + projection)
    assert flops["patch embedding"] == 2 * 2 * 144 * 14 * 14 * 3 * width


def test_counting_flops_computes_nothing_and_leaves_the_model_as_it_is(model: AdaCLIP) -> None:
    images, names = golden.batch([3])
    before = model.predict(images, names)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    count_flops(lambda watch: run_stages(model, images, names, watch))
    assert torch.backends.mha.get_fastpath_enabled() == fast_path
    assert torch.equal(model.predict(images, names).score, before.score)
