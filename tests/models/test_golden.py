"""Every value that the released code computed for the golden model, in fp32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.anomaly_map import render
from pipeline.models import AdaCLIP, Features, Prediction
from pipeline.models.clip import embed_patches
from tests import golden

CASES = range(len(golden.CASES))
FEATURE = 2e-5  # what another CPU's order of summation may cost
SCORE = 1e-4
FUSION_SPREAD = 0.002  # around the range of the released code's 100 unseeded runs


class Case:
    """What the two golden models (fusion on and off) give for one golden image."""

    def __init__(self, model: AdaCLIP, without_fusion: AdaCLIP, case: int) -> None:
        images, categories = golden.batch([case])
        with torch.inference_mode():
            tokens = embed_patches(model.clip.visual, images, model.position_embedding)
            self.pixels = images[0, :, ::7, ::7]
            self.position_embedding = model.position_embedding[::11]
            self.frozen = model.frozen_embedding(tokens)
            self.visual_prompts = model.dynamic_visual_prompt_generator.fan_out(self.frozen)
            self.text_prompts = model.dynamic_text_prompt_generator.fan_out(self.frozen)
            self.features: Features = model(images, categories)
        self.prediction: Prediction = model.predict(images, categories)
        self.score = float(self.prediction.score)
        self.score_without_fusion = float(without_fusion.predict(images, categories).score)

    def map(self, sigma: float) -> NDArray[np.float32]:
        """The rendered anomaly map."""
        return render(self.prediction.logit_grid[0].numpy(), golden.IMAGE_SIZE, sigma)


# Recorded array → our value for it, and how far they may be apart.
CHECKS: dict[str, tuple[Callable[[Case], Any], float]] = {
    "pixels": (lambda case: case.pixels, 0.0),
    "position_embedding": (lambda case: case.position_embedding, FEATURE),
    "frozen_embedding": (lambda case: case.frozen[0], FEATURE),
    "dynamic_visual_prompts": (lambda case: case.visual_prompts[0], FEATURE),
    "dynamic_text_prompts": (lambda case: case.text_prompts[0], FEATURE),
    "image_embedding": (lambda case: case.features.class_embedding[0], FEATURE),
    "patch_embeddings": (lambda case: case.features.patch_embeddings[0, :, ::5], FEATURE),
    "text_features": (lambda case: case.features.text_features[0].T, FEATURE),
    "anomaly_map": (lambda case: case.map(sigma=0.0), SCORE),
    "smoothed_map": (lambda case: case.map(sigma=4.0), SCORE),
    "score_without_fusion": (lambda case: case.score_without_fusion, SCORE),
}


@pytest.fixture(scope="module")
def cases(golden_files: Mapping[str, str]) -> list[Case]:
    """The golden model run on the four golden images, one at a time."""
    model, without_fusion = golden.load(golden_files), golden.load(golden_files, use_fusion=False)
    return [Case(model, without_fusion, i) for i in CASES]


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("case", CASES)
def test_value_equals_the_released_codes(cases: list[Case], case: int, name: str) -> None:
    ours, tolerance = CHECKS[name]
    recorded = golden.values()[f"{case}/{name}"]
    found = np.asarray(ours(cases[case]))
    assert found.shape == recorded.shape
    np.testing.assert_allclose(found, recorded, rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_score_with_fusion_is_one_that_the_released_code_could_give(
    cases: list[Case], case: int
) -> None:
    recorded = golden.values()[f"{case}/scores_with_fusion"]
    score = cases[case].score
    assert recorded.min() - FUSION_SPREAD <= score <= recorded.max() + FUSION_SPREAD


def test_fusion_brings_the_score_closer_to_the_released_fusion(cases: list[Case]) -> None:
    for i, case in enumerate(cases):
        recorded = golden.values()[f"{i}/scores_with_fusion"].mean()
        assert abs(case.score - recorded) < abs(case.score_without_fusion - recorded)


def test_every_recorded_value_is_checked() -> None:
    recorded = {key for key in golden.values() if not key.startswith("train/")}
    checked = {f"{i}/{name}" for i in CASES for name in (*CHECKS, "scores_with_fusion")}
    assert checked == recorded
