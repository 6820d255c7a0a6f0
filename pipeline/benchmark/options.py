"""Options that change results: how much faster, and how far from the default.

Speed is that of a large model with random weights. What the options do to scores and maps is
measured with the small model on generated pictures of products that it never saw.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn

from pipeline.anomaly_map import render
from pipeline.evaluation import PixelHistogram, image_metrics
from pipeline.images import preprocess
from pipeline.models import AdaCLIP, load_adaclip
from pipeline.models.clip import project_class_token, run_block
from pipeline.models.packaged import SMALL_MODEL
from pipeline.synthetic import CATEGORIES, TEST_CATEGORIES, generate

from .timing import Stopwatch, rounded, steadier

NATIVE_SIZE = 192  # of the small model, pixels
LARGER_SIZE = 288  # for what only matters above the native size
FIRST_SEED = 900_000  # the small model was made from smaller ones
SHARE_MERGED = 0.75  # of the patch tokens, by the end of the frozen pass

Load = Callable[..., AdaCLIP]


class MergingAdaCLIP(AdaCLIP):
    """Token merging (Bolya et al., ICLR 2023) in the frozen pass, where no map needs the tokens.

    After every block but the last, the most alike pairs of patch tokens become their mean.
    """

    def frozen_embedding(self, tokens: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """As ``AdaCLIP.frozen_embedding``, on fewer and fewer tokens."""
        *blocks, last = self.clip.visual.transformer.resblocks
        num_merged = int(SHARE_MERGED * (tokens.shape[1] - 1) / len(blocks))
        sizes = tokens.new_ones(tokens.shape[:2])
        for block in blocks:
            tokens = run_block(block, tokens, mask=sizes.log()[:, None, None])
            tokens, sizes = merge_tokens(tokens, sizes, num_merged)
        mask = sizes.log()[:, None, None]
        tokens = run_block(last, tokens, mask=mask, queries=slice(1))
        return project_class_token(self.clip.visual, tokens)


def merge_tokens(tokens: Tensor, sizes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Merge ``count`` tokens of every second place into the ones of the others most like them.

    Args:
        tokens: [B, L, D], class token first; it is left alone.
        sizes: [B, L] how many original tokens each stands for.

    Returns:
        [B, L - count, D] and [B, L - count].
    """
    unit = nn.functional.normalize(tokens[:, 1:], dim=-1)
    likeness = unit[:, ::2] @ unit[:, 1::2].mT
    best, partner = likeness.max(dim=-1)
    order = best.argsort(dim=-1, descending=True)
    gone, stay = order[:, :count], order[:, count:]
    weighted = tokens * sizes[..., None]

    def rows(x: Tensor, index: Tensor) -> Tensor:
        return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))

    target = partner.gather(1, gone)
    sources, targets = weighted[:, 1::2], weighted[:, 2::2]
    source_sizes, target_sizes = sizes[:, 1::2], sizes[:, 2::2]
    wide = target[..., None].expand(-1, -1, tokens.shape[-1])
    targets = targets.scatter_add(1, wide, rows(sources, gone))
    target_sizes = target_sizes.scatter_add(1, target, source_sizes.gather(1, gone))
    sizes = torch.cat([sizes[:, :1], source_sizes.gather(1, stay), target_sizes], dim=1)
    merged = torch.cat([weighted[:, :1], rows(sources, stay), targets], dim=1)
    return merged / sizes[..., None], sizes


def merging(model: AdaCLIP) -> AdaCLIP:
    """The same model with token merging in its frozen pass."""
    merged = MergingAdaCLIP(model.clip, model.settings, name=model.name)
    merged.load_state_dict(model.state_dict())
    return merged.eval().to(model.device, model.position_embedding.dtype)


def quantized(model: AdaCLIP) -> AdaCLIP:
    """A copy of an fp32 model whose image tower's MLPs have int8 weights and, per call, inputs."""
    model = copy.deepcopy(model)
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn"  # the one that uses a CPU's matrix units
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated in favour of a package of its own
            torch.ao.quantization.quantize_dynamic(
                model.clip.visual.transformer, {nn.Linear}, dtype=torch.qint8, inplace=True
            )
    finally:
        torch.backends.quantized.engine = engine
    return model


@dataclass(frozen=True)
class Option:
    """A way to run the model, and what it is compared with."""

    name: str
    make: Callable[[Load, int], AdaCLIP]
    """From a loader and the backbone's native size."""
    baseline: Callable[[Load, int], AdaCLIP]
    kept: bool
    """Whether the jobs offer it."""
    larger: bool = False
    """Compared above the native size, because it does nothing at that."""


def _default(load: Load, native: int, *, precision: str = "fp32") -> AdaCLIP:
    return load(precision=precision)


def _native(load: Load, native: int) -> AdaCLIP:
    return load(precision="bf16", frozen_image_size=native)


OPTIONS = (
    Option("bf16 instead of fp32", partial(_default, precision="bf16"), _default, kept=True),
    Option(
        "frozen pass at the native size",
        _native,
        partial(_default, precision="bf16"),
        kept=True,
        larger=True,
    ),
    Option(
        "token merging in the frozen pass",
        lambda load, native: merging(load(precision="bf16")),
        partial(_default, precision="bf16"),
        kept=False,
    ),
    Option(
        "int8 MLPs of the image tower",
        lambda load, native: quantized(load(precision="fp32")),
        partial(_default, precision="bf16"),
        kept=False,
    ),
)


def measure_speed(
    option: Option, *, backbone: str, image_size: int, native: int, repeats: int
) -> dict[str, float]:
    """Seconds of ``predict`` on one image with the option and with its baseline, in turns."""
    load = partial(load_adaclip, backbone=backbone, backbone_weights=None, image_size=image_size)
    models = {"baseline_s": option.baseline(load, native), "option_s": option.make(load, native)}
    image = torch.randn(1, 3, image_size, image_size)
    watch = Stopwatch(image.device)
    for repeat in range(repeats + 1):
        for name, model in models.items():
            watch(name, lambda model=model: model.predict(image, ["metal nut"]))  # type: ignore[misc]
        if repeat == 0:
            watch.clear()
    seconds = {name: min(steadier(watch[name], image.device)) for name in models}
    ratio = seconds["baseline_s"] / seconds["option_s"]
    return {name: rounded(value) for name, value in (*seconds.items(), ("speed_up", ratio))}


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures of products that the small model never saw."""

    images: Tensor
    """float32 [n, 3, size, size], normalised."""
    categories: list[str]
    masks: NDArray[np.bool_]
    """[n, size, size]; empty for a good product."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """[n], 1 for a damaged product."""
        return np.asarray(self.masks.any(axis=(1, 2)), dtype=np.int64)


def draw_pictures(per_category: int, size: int) -> Pictures:
    """Half of them good; the defects take turns."""
    categories = [name for name in TEST_CATEGORIES for _ in range(per_category)]
    samples = []
    for i, name in enumerate(categories):
        kinds = CATEGORIES[name].defects
        defect = "good" if i % 2 else kinds[i // 2 % len(kinds)]
        samples.append(generate(name, defect, FIRST_SEED + i, size=size))
    pixels = [preprocess(Image.fromarray(sample.image), size) for sample in samples]
    masks = np.stack([sample.mask for sample in samples])
    return Pictures(torch.from_numpy(np.stack(pixels)), categories, masks)


@dataclass(frozen=True)
class Outcome:
    """Scores and maps of all pictures."""

    scores: NDArray[np.float32]
    """[n]."""
    maps: NDArray[np.float32]
    """[n, size, size] in [0, 1]."""


def judge(model: AdaCLIP, pictures: Pictures, *, batch_size: int = 16) -> Outcome:
    """Run the model over all pictures."""
    size, scores, maps = pictures.images.shape[-1], [], []
    for start in range(0, len(pictures.images), batch_size):
        part = slice(start, start + batch_size)
        prediction = model.predict(pictures.images[part], pictures.categories[part])
        scores.append(prediction.score.numpy())
        maps += [render(grid, size) for grid in prediction.logit_grid.numpy()]
    return Outcome(np.concatenate(scores), np.stack(maps))


def compare(option: Outcome, baseline: Outcome, pictures: Pictures) -> dict[str, float]:
    """How far an option's outcome is from the baseline's, and what each is worth."""
    scores, maps = np.abs(option.scores - baseline.scores), np.abs(option.maps - baseline.maps)
    found = {
        "score_mean_deviation": scores.mean(),
        "score_max_deviation": scores.max(),
        "map_mean_deviation": maps.mean(),
        "map_max_deviation": maps.max(),
        "score_rank_correlation": spearmanr(option.scores, baseline.scores).statistic,
    }
    for name, outcome in (("baseline", baseline), ("option", option)):
        image, pixel = _aurocs(outcome, pictures)
        found[f"{name}_image_auroc"], found[f"{name}_pixel_auroc"] = image, pixel
    return {name: rounded(float(value)) for name, value in found.items()}


def measure_options(
    options: Sequence[Option] = OPTIONS,
    *,
    backbone: str = "ViT-L-14-336",
    image_size: int = 518,
    native: int = 336,
    repeats: int = 3,
    per_category: int = 30,
) -> list[dict[str, Any]]:
    """Speed and deviation of every option against its baseline.

    Args:
        options: what to measure.
        backbone, image_size, native: the large model, its input and its backbone's own size.
        repeats: timed rounds.
        per_category: pictures of each of the four left-out products.
    """
    small = partial(load_adaclip, **SMALL_MODEL)
    found: list[dict[str, Any]] = []
    for option in options:
        size = LARGER_SIZE if option.larger else NATIVE_SIZE
        pictures = draw_pictures(per_category, size)
        load = partial(small, image_size=size)
        outcome = judge(option.make(load, NATIVE_SIZE), pictures)
        baseline = judge(option.baseline(load, NATIVE_SIZE), pictures)
        speed = measure_speed(
            option, backbone=backbone, image_size=image_size, native=native, repeats=repeats
        )
        deviation = compare(outcome, baseline, pictures)
        about = {"option": option.name, "kept": option.kept, "pictures": len(pictures.images)}
        found.append({**about, "picture_size": size, **speed, **deviation})
    return found


def _aurocs(outcome: Outcome, pictures: Pictures) -> tuple[float, float]:
    """Image and pixel AUROC, means over the categories."""
    names = np.array(pictures.categories)
    image, pixel = [], []
    for name in dict.fromkeys(pictures.categories):
        chosen = np.flatnonzero(names == name)
        image.append(image_metrics(outcome.scores[chosen], pictures.labels[chosen])["image_auroc"])
        histogram = PixelHistogram()
        for i in chosen:
            histogram.add(outcome.maps[i], pictures.masks[i])
        pixel.append(histogram.metrics()["pixel_auroc"])
    return float(np.mean(image)), float(np.mean(pixel))
