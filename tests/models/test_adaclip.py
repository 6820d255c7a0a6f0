"""The model as its users see it: batches, switches, errors, fingerprints, gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.images import preprocess
from pipeline.models import AdaCLIP, AdaCLIPSettings, Features, Prediction, load_adaclip
from pipeline.models.text import ABNORMAL_STATES, NORMAL_STATES, TEMPLATES, encode_text
from tests import golden

Files = Mapping[str, str]
ALL = list(range(len(golden.CASES)))
EXACT = 1e-5  # where a batch may be summed in another order
KINDS = ("both", "static", "dynamic", "none")
TOWERS = ("both", "visual", "text")
LONG_NAME = "very long name of a hand-made wooden toy with many moving parts " * 6
MIXED_NAMES = ["a", LONG_NAME, "printed circuit board 4", "metal nut"]


@pytest.fixture(scope="module")
def model(golden_files: Files) -> AdaCLIP:
    """The golden model; tests leave its weights as they are."""
    return golden.load(golden_files)


@pytest.fixture(scope="module")
def everything() -> tuple[Tensor, list[str]]:
    """The four golden images and their class names."""
    return golden.batch(ALL)


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
    tokenizer = open_clip.SimpleTokenizer()
    rows = []
    for states in (NORMAL_STATES, ABNORMAL_STATES):
        texts = [t.format(s.format(category)) for s in states for t in TEMPLATES]
        features = F.normalize(clip.encode_text(tokenizer(texts, 77)), dim=-1)
        rows.append(F.normalize(features.mean(dim=0), dim=-1))
    return torch.stack(rows)


def zero(module: nn.Module) -> None:
    """Set all parameters to zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()


def assert_close(ours: Prediction, others: Prediction, atol: float) -> None:
    """Equal scores and maps, up to ``atol``."""
    torch.testing.assert_close(ours.score, others.score, rtol=0, atol=atol)
    maps = (ours.logit_grid.sigmoid(), others.logit_grid.sigmoid())
    torch.testing.assert_close(*maps, rtol=0, atol=atol)


def assert_identical(ours: Prediction, others: Prediction) -> None:
    """Equal scores and logits, bit for bit."""
    assert torch.equal(ours.score, others.score)
    assert torch.equal(ours.logit_grid, others.logit_grid)


def rows(prediction: Prediction, index: list[int]) -> Prediction:
    """Some images of a batch."""
    return Prediction(prediction.logit_grid[index], prediction.score[index])


# --- batches --------------------------------------------------------------------------------


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


def test_bf16_scores_are_within_a_hundredth_of_fp32(
    model: AdaCLIP, golden_files: Files, everything: tuple[Tensor, list[str]]
) -> None:
    half = golden.load(golden_files, precision="bf16").predict(*everything)
    assert half.score.dtype == half.logit_grid.dtype == torch.float32
    assert (half.score - model.predict(*everything).score).abs().max() < 0.01


# --- switches -------------------------------------------------------------------------------


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
    tokenizer = open_clip.SimpleTokenizer()
    texts = [t.format(s.format("nut")) for s in NORMAL_STATES + ABNORMAL_STATES for t in TEMPLATES]
    ids = tokenizer(texts, 77)
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


# --- errors ---------------------------------------------------------------------------------


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


# --- fingerprint ----------------------------------------------------------------------------


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


# --- gradients ------------------------------------------------------------------------------


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
