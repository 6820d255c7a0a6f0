"""The model as its users see it: batches, errors, gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models import AdaCLIP, Features, Prediction, load_adaclip
from tests import golden

from .predictions import LONG_NAME, assert_close, assert_identical

Files = Mapping[str, str]
ALL = list(range(len(golden.CASES)))
EXACT = 1e-5  # where a batch may be summed in another order
MIXED_NAMES = ["a", LONG_NAME, "printed circuit board 4", "metal nut"]


@pytest.fixture(scope="module")
def everything() -> tuple[Tensor, list[str]]:
    """The four golden images and their class names."""
    return golden.batch(ALL)


def rows(prediction: Prediction, index: list[int]) -> Prediction:
    """Some images of a batch."""
    values = (prediction.logit_grid, prediction.score, prediction.score_logit)
    return Prediction(*(each[index] for each in values))


def test_a_prediction_has_a_finite_grid_and_score_per_image(
    model: AdaCLIP, everything: tuple[Tensor, list[str]]
) -> None:
    prediction = model.predict(*everything)
    assert prediction.logit_grid.shape == (4, 12, 12)
    assert prediction.score.shape == (4,)
    assert prediction.logit_grid.dtype == prediction.score.dtype == torch.float32
    assert prediction.logit_grid.isfinite().all()
    assert ((prediction.score >= 0) & (prediction.score <= 1)).all()


@pytest.mark.parametrize("names", [None, MIXED_NAMES], ids=["golden names", "mixed lengths"])
def test_a_batch_gives_what_its_images_give_alone(
    model: AdaCLIP, everything: tuple[Tensor, list[str]], names: list[str] | None
) -> None:
    images, categories = everything
    categories = names or categories
    together = model.predict(images, categories)
    for i in ALL:
        alone = model.predict(images[i : i + 1], categories[i : i + 1])
        assert_close(alone, rows(together, [i]), EXACT)


@pytest.mark.parametrize("names", [None, MIXED_NAMES], ids=["golden names", "mixed lengths"])
def test_a_shuffled_batch_gives_the_same(
    model: AdaCLIP, everything: tuple[Tensor, list[str]], names: list[str] | None
) -> None:
    images, categories = everything
    categories = names or categories
    order = [2, 0, 3, 1]
    shuffled = model.predict(images[order], [categories[i] for i in order])
    assert_close(shuffled, rows(model.predict(images, categories), order), EXACT)


def test_the_same_image_twice_in_a_batch_gives_the_same(model: AdaCLIP) -> None:
    images, categories = golden.batch([1, 0, 1])
    prediction = model.predict(images, categories)
    assert_close(rows(prediction, [0]), rows(prediction, [2]), EXACT)


class Copies(TorchDispatchMode):
    """Notes what is copied from another device to that of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = len(args) > 0 and isinstance(args[0], Tensor) and isinstance(out, Tensor)
        if tensors and out.device != args[0].device:
            self.shapes.append(tuple(out.shape))
        return out


@pytest.mark.parametrize(
    "settings", [{}, {"prompt_kind": "none"}, {"frozen_image_size": 112}], ids=str
)
def test_a_forward_pass_waits_for_no_value_and_copies_only_the_images(
    golden_files: Files, settings: dict[str, Any]
) -> None:
    """On the meta device no tensor has a value: whatever asks for one raises."""
    model = golden.load(golden_files, **settings).to("meta")
    images, names = golden.batch([0, 2])[0], ["nut", "nut"]
    model.predict(images, names)
    with Copies() as copies:
        prediction = model.predict(images, names)
    assert copies.shapes == [tuple(images.shape)]
    assert prediction.score.device.type == "meta"
    model.predict(images, ["nut", "metal nut"])  # may copy which image has which name


def test_predicting_twice_is_identical(
    model: AdaCLIP, everything: tuple[Tensor, list[str]]
) -> None:
    assert_identical(model.predict(*everything), model.predict(*everything))


def test_no_call_leaves_a_trace_in_the_next(model: AdaCLIP) -> None:
    before = model.predict(*golden.batch([0]))
    model.predict(*golden.batch([1, 2, 3]))
    model.predict(golden.batch([2])[0], [LONG_NAME])
    assert_identical(model.predict(*golden.batch([0])), before)


def test_a_model_loaded_twice_predicts_the_same(model: AdaCLIP, golden_files: Files) -> None:
    batch = golden.batch([3])
    assert_identical(golden.load(golden_files).predict(*batch), model.predict(*batch))


def test_arrays_are_as_good_as_tensors(model: AdaCLIP) -> None:
    images, categories = golden.batch([0])
    assert_identical(model.predict(images.numpy(), categories), model.predict(images, categories))


def test_the_category_matters(model: AdaCLIP) -> None:
    images, _ = golden.batch([0, 0])
    scores = model.predict(images, ["grass", "metal nut"]).score
    assert abs(scores[0] - scores[1]) > 1e-3


def test_hyphens_in_a_category_are_spaces_and_braces_are_harmless(model: AdaCLIP) -> None:
    images, _ = golden.batch([1, 1])
    prediction = model.predict(images, ["brick-wall", "brick wall"])
    assert_close(rows(prediction, [0]), rows(prediction, [1]), EXACT)
    assert model.predict(images, ["{}", "{0!r} %s"]).score.isfinite().all()


def test_bf16_scores_are_near_those_of_fp32(
    model: AdaCLIP, golden_files: Files, everything: tuple[Tensor, list[str]]
) -> None:
    half = golden.load(golden_files, precision="bf16").predict(*everything)
    assert half.score.dtype == half.logit_grid.dtype == torch.float32
    # A hundredth, and what CPUs differ by: random weights, 0.0103 on an EPYC without bfloat16.
    assert (half.score - model.predict(*everything).score).abs().max() < 0.015


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [(3, 168, 168), (1, 3, 168, 140), (1, 3, 112, 112), (1, 1, 168, 168), (1, 168, 168, 3)],
)
def test_images_of_another_shape_are_refused(model: AdaCLIP, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[B, 3, 168, 168\]"):
        model.predict(torch.zeros(shape), ["nut"])


@pytest.mark.parametrize(
    "categories", ["nuts", ["nut"], ["nut"] * 5, []], ids=["str", "few", "many", "none"]
)
def test_one_category_an_image_is_needed(model: AdaCLIP, categories: Any) -> None:
    with pytest.raises(ValueError, match="list of 4 categories"):
        model.predict(torch.zeros(4, 3, 168, 168), categories)


@pytest.mark.parametrize("name", ["", "  ", "\t\n"])
def test_an_empty_category_is_refused(model: AdaCLIP, name: str) -> None:
    with pytest.raises(ValueError, match="category is empty"):
        model.predict(torch.zeros(2, 3, 168, 168), ["nut", name])


def test_prompts_may_not_overwrite_the_end_of_a_sentence(golden_files: Files) -> None:
    # "a bad photo of a nut." and its start token take eight places.
    fits = golden.load({**golden_files, "checkpoint": None}, prompt_length=7)
    assert fits.predict(golden.batch([0])[0], ["nut"]).score.isfinite().all()
    too_long = golden.load({**golden_files, "checkpoint": None}, prompt_length=8)
    with pytest.raises(ValueError, match=r"prompt_length=8 .* at most 7"):
        too_long.predict(golden.batch([0])[0], ["nut"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 170}, "use 168 or 182"),
        ({"image_size": 13}, "use 14 or 28"),
        ({"image_size": 0}, "image_size=0"),
        ({"frozen_image_size": 100}, "frozen_image_size=100 .* use 98 or 112"),
        ({"prompt_depth": 0}, "prompt_depth=0"),
        ({"prompt_depth": 9}, r"within 1\.\.8"),
        ({"prompt_length": 0}, "prompt_length"),
        ({"num_clusters": 0}, "num_clusters"),
        ({"prompt_kind": "statik"}, "prompt_kind.*'statik'"),
        ({"prompted_towers": "image"}, "prompted_towers.*'image'"),
        ({"precision": "fp16"}, "precision.*'fp16'"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: dict[str, Any], message: str) -> None:
    arguments = {"image_size": golden.IMAGE_SIZE, **settings}
    with pytest.raises(ValueError, match=message):
        load_adaclip(backbone=golden.BACKBONE, backbone_weights=None, **arguments)


# --- gradients ---------------------------------------------------------------------------------


def loss_of(features: Features) -> Tensor:
    """A loss that depends on all features."""
    tensors = (features.class_embedding, features.patch_embeddings, features.text_features)
    generator = torch.Generator().manual_seed(0)
    sums = [(x * torch.randn(x.shape, generator=generator)).sum() for x in tensors]
    return torch.stack(sums).sum()


def score_loss(model: AdaCLIP) -> Callable[[Features], Tensor]:
    """A loss on the scores and the maps."""

    def loss(features: Features) -> Tensor:
        prediction = model.score(features)
        return prediction.score.sum() + prediction.logit_grid.sigmoid().sum()

    return loss


@pytest.mark.parametrize("on", ["features", "scores"])
def test_gradients_reach_all_of_adaclip_and_nothing_of_clip(golden_files: Files, on: str) -> None:
    model = golden.load(golden_files)
    model.predict(*golden.batch([0, 1]))  # scoring before leaves nothing that hinders training
    loss = loss_of if on == "features" else score_loss(model)
    loss(model(*golden.batch([0, 1]))).backward()
    for name, parameter in model.named_parameters():
        moved = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        unused = name == "text_prompter.static_prompts.0"
        assert moved == (not name.startswith("clip.") and not unused), name
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name


def test_the_backbone_is_frozen_and_the_rest_is_not(model: AdaCLIP) -> None:
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (not name.startswith("clip.")), name


def test_predictions_carry_no_gradients(model: AdaCLIP) -> None:
    assert not model.predict(*golden.batch([0])).score.requires_grad
