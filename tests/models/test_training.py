"""The training step against the released code's values, and its invariants."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.models import AdaCLIP
from pipeline.models.training import (
    NonFiniteLoss,
    StepResult,
    TrainPrecision,
    compute_losses,
    learnable_parameters,
    make_optimizer,
    training_step,
)
from tests import golden

VALUES = golden.values()
SIZE = 56
CATEGORIES = ["grass", "metal nut", "brick-wall", "grass"]


@pytest.fixture(scope="module")
def loaded(golden_files: dict[str, str]) -> AdaCLIP:
    return golden.load(golden_files, image_size=SIZE)


@pytest.fixture
def model(loaded: AdaCLIP) -> AdaCLIP:
    """A model that a test may train."""
    return copy.deepcopy(loaded)


def batch(seed: int = 0) -> tuple[Tensor, list[str], Tensor, Tensor]:
    """Four images of noise, the last two good."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 3, SIZE, SIZE, generator=generator)
    labels = torch.tensor([1, 1, 0, 0])
    masks = (torch.rand(4, SIZE, SIZE, generator=generator) > 0.8) & (labels[:, None, None] == 1)
    return images, list(CATEGORIES), labels, masks


def part(
    of: tuple[Tensor, list[str], Tensor, Tensor], index: slice
) -> tuple[Tensor, list[str], Tensor, Tensor]:
    images, categories, labels, masks = of
    return images[index], categories[index], labels[index], masks[index]


def weights(model: AdaCLIP) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.learnable_state().items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    for name, value in a.items():
        assert torch.equal(b[name], value), name


def test_a_step_has_the_released_codes_losses_and_gradients(golden_files: dict[str, str]) -> None:
    model = golden.load(golden_files, use_fusion=False)
    before = weights(model)
    images, categories = golden.batch([0])
    png = (golden.FOLDER / "inputs" / "grass_stain_mask.png").read_bytes()
    size = (golden.IMAGE_SIZE, golden.IMAGE_SIZE)
    resized = Image.open(io.BytesIO(png)).convert("L").resize(size, Image.Resampling.BILINEAR)
    mask = torch.from_numpy(np.asarray(resized) / 255 > 0.5)[None]
    result = training_step(model, make_optimizer(model), images, categories, torch.ones(1), mask)
    assert result.score_loss == pytest.approx(float(VALUES["train/classification_loss"]), abs=1e-4)
    assert result.focal == pytest.approx(float(VALUES["train/focal_map_loss"]), abs=1e-4)
    assert result.dice == pytest.approx(float(VALUES["train/dice_map_loss"]), abs=1e-4)
    norms = {
        name: float(VALUES[f"train/grad_norm/{name}"])
        for name in before
        if f"train/grad_norm/{name}" in VALUES.files
    }
    assert result.grad_norm == pytest.approx(sum(n**2 for n in norms.values()) ** 0.5, rel=1e-3)
    after = weights(model)
    # Block 0 of the text tower runs without prompts: that entry only decays.
    unused = "text_prompter.static_prompts.0"
    torch.testing.assert_close(after[unused], before[unused] * (1 - 0.01 * 0.01))
    assert not any(torch.equal(after[name], value) for name, value in before.items())


def test_only_adaclips_own_weights_learn(model: AdaCLIP) -> None:
    backbone = {name: value.clone() for name, value in model.clip.state_dict().items()}
    optimizer = make_optimizer(model)
    assert sum(p.numel() for p in learnable_parameters(model)) == sum(
        value.numel() for value in model.learnable_state().values()
    )
    training_step(model, optimizer, *batch())
    assert all(p.grad is None and not p.requires_grad for p in model.clip.parameters())
    assert_same(backbone, model.clip.state_dict())


def test_the_optimizer_is_the_papers(model: AdaCLIP) -> None:
    group = make_optimizer(model).param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.01, (0.5, 0.999), 0.01)


def test_the_loss_falls(model: AdaCLIP) -> None:
    optimizer = make_optimizer(model)
    losses = [training_step(model, optimizer, *batch()).loss for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("cut", [[2, 2], [1, 3], [4, 0], [1, 1, 1, 1]])
def test_workers_together_make_the_step_of_one(
    golden_files: dict[str, str], cut: list[int]
) -> None:
    """The gradients' sum over the workers, computed here by hand, is what one worker computes."""
    whole = golden.load(golden_files, image_size=SIZE)
    expected = training_step(whole, make_optimizer(whole), *batch())
    sums: list[Tensor] = []
    statistics = torch.zeros(3)
    results: list[StepResult] = []

    def collect(parameters: Sequence[nn.Parameter], own: Tensor) -> Tensor:
        nonlocal statistics
        statistics = statistics + own
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        sums[:] = [a + b for a, b in zip(sums, gradients, strict=True)] if sums else gradients
        if done == sum(cut):
            for parameter, total in zip(parameters, sums, strict=True):
                parameter.grad = total
        return statistics

    done = 0
    for size in cut:
        worker = golden.load(golden_files, image_size=SIZE)
        own = part(batch(), slice(done, done + size))
        done += size
        optimizer = make_optimizer(worker)
        results.append(
            training_step(worker, optimizer, *own, share=size / 4, reduce_gradients=collect)
        )
    assert results[-1].loss == pytest.approx(expected.loss, rel=1e-5)
    assert results[-1].grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)
    # Adam's first step is lr · sign(g), so only the gradients can agree to rounding.
    pairs = list(zip(learnable_parameters(whole), learnable_parameters(worker), strict=True))
    apart = [
        (a.grad - b.grad).norm() for a, b in pairs if a.grad is not None and b.grad is not None
    ]
    assert len(apart) == len(pairs)
    assert torch.stack(apart).norm() < 1e-5 * expected.grad_norm
    moved = [(a - b).abs() for a, b in pairs]
    assert torch.cat([m.flatten() for m in moved]).mean() < 1e-5


def test_an_image_without_a_mask_trains_the_score_only(model: AdaCLIP) -> None:
    images, categories, labels, masks = batch()
    has_mask = torch.tensor([True, False, True, True])
    optimizer = make_optimizer(model, lr=0.0)
    some = training_step(model, optimizer, images, categories, labels, masks, has_mask=has_mask)
    singles = [training_step(model, optimizer, *part(batch(), slice(i, i + 1))) for i in range(4)]
    assert some.score_loss == pytest.approx(np.mean([s.score_loss for s in singles]), rel=1e-4)
    assert some.dice == pytest.approx(sum(s.dice for s in singles if s is not singles[1]) / 4)
    assert some.focal == pytest.approx(sum(s.focal for s in singles if s is not singles[1]) / 4)
    none = training_step(
        model, optimizer, images, categories, labels, masks, has_mask=torch.zeros(4).bool()
    )
    assert (none.focal, none.dice) == (0, 0)
    assert none.score_loss == pytest.approx(some.score_loss, rel=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_the_images(
    model: AdaCLIP, precision: TrainPrecision
) -> None:
    optimizer = make_optimizer(model)
    training_step(model, optimizer, *batch())
    before = weights(model)
    images, categories, labels, masks = batch(1)
    images[1] = float("nan")
    images[3] = float("inf")
    with pytest.raises(NonFiniteLoss, match="not a finite number") as stopped:
        training_step(model, optimizer, images, categories, labels, masks, precision=precision)
    assert stopped.value.indices == [1, 3]
    assert_same(before, weights(model))
    assert all(state["step"] == 1 for state in optimizer.state.values())


def test_a_loss_of_another_worker_that_is_not_finite_stops_this_one(model: AdaCLIP) -> None:
    before = weights(model)
    with pytest.raises(NonFiniteLoss) as stopped:
        training_step(
            model,
            make_optimizer(model),
            *batch(),
            reduce_gradients=lambda _, statistics: statistics * float("nan"),
        )
    assert stopped.value.indices == []
    assert_same(before, weights(model))


def test_a_gradient_that_is_not_finite_stops_before_the_update(model: AdaCLIP) -> None:
    before = weights(model)

    def overflow(parameters: Sequence[nn.Parameter], statistics: Tensor) -> Tensor:
        assert parameters[-1].grad is not None
        parameters[-1].grad.fill_(float("inf"))
        return statistics

    with pytest.raises(NonFiniteLoss, match="gradient") as stopped:
        training_step(model, make_optimizer(model), *batch(), reduce_gradients=overflow)
    assert stopped.value.indices == [0, 1, 2, 3]
    assert_same(before, weights(model))


def test_long_gradients_can_be_shortened(model: AdaCLIP) -> None:
    optimizer = make_optimizer(model, lr=0.0)
    result = training_step(model, optimizer, *batch(), max_grad_norm=0.1)
    left = [p.grad.norm() for p in learnable_parameters(model) if p.grad is not None]
    assert result.grad_norm > 0.1
    assert torch.stack(left).norm().item() == pytest.approx(0.1, rel=1e-3)


def test_bf16_stays_near_fp32_with_fp32_weights(golden_files: dict[str, str]) -> None:
    model = golden.load(golden_files, image_size=SIZE)
    optimizer = make_optimizer(model, lr=0.0)
    exact = training_step(model, optimizer, *batch())
    half = training_step(model, optimizer, *batch(), precision="bf16")
    assert half.loss == pytest.approx(exact.loss, rel=0.02)
    assert half.grad_norm == pytest.approx(exact.grad_norm, rel=0.1)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "settings",
    [
        {"prompt_kind": "none"},
        {"prompt_kind": "static"},
        {"prompt_kind": "dynamic"},
        {"prompted_towers": "visual"},
        {"prompted_towers": "text"},
        {"use_fusion": False},
    ],
)
def test_every_ablation_trains_what_it_uses(
    golden_files: dict[str, str], settings: dict[str, object]
) -> None:
    model = golden.load(golden_files, image_size=SIZE, **settings)
    before = weights(model)
    result = training_step(model, make_optimizer(model), *batch())
    assert np.isfinite(result.loss)
    learned = {n for n, v in weights(model).items() if not torch.equal(v, before[n])}
    assert any(name.startswith("patch_token_layer") for name in learned)
    text = settings.get("prompted_towers") != "visual"
    for kind, prefix in (
        ("static", "text_prompter.static_prompts.1"),
        ("dynamic", "dynamic_text_prompt_generator.head.0.weight"),
    ):
        used = text and settings.get("prompt_kind", "both") in ("both", kind)
        assert (prefix in learned) == used


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputed_activations_give_the_same_gradients(
    model: AdaCLIP, precision: TrainPrecision
) -> None:
    gradients = []
    for recompute in (False, True):
        model.recompute_activations = recompute
        model.zero_grad()
        make_optimizer(model)
        losses, _ = compute_losses(model, *batch(), precision=precision)
        losses.sum().backward()
        named = model.named_parameters()
        gradients.append({n: p.grad.clone() for n, p in named if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert_same(*gradients)


def test_recomputed_activations_are_not_kept(model: AdaCLIP) -> None:
    kept = []
    for recompute in (False, True):
        model.recompute_activations = recompute
        make_optimizer(model)
        numbers: list[int] = []

        def count(tensor: Tensor, numbers: list[int] = numbers) -> Tensor:
            numbers.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            compute_losses(model, *batch())
        kept.append(sum(numbers))
    assert kept[1] < 0.7 * kept[0]


def test_flushed_denormals_change_no_loss_and_no_step(golden_files: dict[str, str]) -> None:
    results, states = [], []
    for flush in (False, True):
        model = golden.load(golden_files, image_size=SIZE)
        optimizer = make_optimizer(model)
        torch.set_flush_denormal(flush)
        try:
            results.append([training_step(model, optimizer, *batch()) for _ in range(2)])
        finally:
            torch.set_flush_denormal(False)
        states.append(weights(model))
    assert results[0] == results[1]
    assert_same(*states)
