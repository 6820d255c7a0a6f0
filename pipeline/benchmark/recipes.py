"""How good weights become, by dice loss, batch size and learning rate, on products never seen.

AdaCLIP's own weights are trained on generated production lines, photographed unevenly and stored as
JPEGs, on the backbone of the small model at a reduced size, in this process, and measured on other
lines. Several seeds each: of the weights they start from, and of the order of images.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from pipeline.anomaly_map import render
from pipeline.config import BenchmarkConfig
from pipeline.evaluation import PixelHistogram, image_metrics
from pipeline.evaluation.reliability import calibration_error, fit_calibration, reliability
from pipeline.images import preprocess
from pipeline.models import AdaCLIP, load_adaclip
from pipeline.models.losses import Dice
from pipeline.models.training import make_optimizer, training_step
from pipeline.packaged import SMALL_MODEL
from pipeline.small_model import denormals_flushed
from pipeline.synthetic import CATEGORIES, TEST_CATEGORIES, TRAIN_CATEGORIES, generate_line
from pipeline.synthetic.lines import INVENTED
from pipeline.synthetic.samples import OBJECT_DEFECTS

_log = logging.getLogger(__name__)

SIZE = 128  # pixels: two thirds of the small model's, in a third of the time
SEEDS = (0, 1, 2)
EPOCHS = 3
IMAGES = 38  # of each training product
NUM_PRODUCTS = 8
DRAWN = 320  # pixels of the photographs
QUALITY = (50, 95)  # of their JPEGs
SIGMA = 4 * SIZE / 518  # pixels: the released code's filter

Metrics = dict[str, float]


class Recipe(NamedTuple):
    """What is varied."""

    dice: Dice
    batch_size: int
    lr: float


RECIPES = tuple(
    Recipe(dice, batch_size, lr)
    for batch_size, lr in ((1, 0.001), (8, 0.003))
    for dice in get_args(Dice)
)


class Photograph(NamedTuple):
    """A labelled part."""

    image: NDArray[np.float32]
    """[3, SIZE, SIZE], normalised."""
    mask: NDArray[np.bool_]
    """[SIZE, SIZE]"""
    category: str


def measure_recipes(
    config: BenchmarkConfig, recipes: Sequence[Recipe] = RECIPES
) -> list[dict[str, Any]]:
    """A row for each recipe and set of products: means and standard deviations over the seeds."""
    torch.set_num_threads(config.num_threads or torch.get_num_threads())
    count = (config.num_images or (IMAGES,))[0]
    train = [each for line in range(NUM_PRODUCTS) for each in _training_line(line, count, 1)]
    fit = [each for line in range(NUM_PRODUCTS) for each in _training_line(line, 10, 5)]
    sets = {"lines": _test_lines(count), "invented": _invented_lines(count)}
    rows = []
    with denormals_flushed():  # as the job's workers
        for recipe in recipes:
            found = _over_seeds(recipe, train, fit, sets)
            told = {**recipe._asdict(), "epochs": EPOCHS, "images": len(train), "seeds": len(SEEDS)}
            rows += [
                {**told, "products": name, "tested": len(sets[name]), **_summary(each)}
                for name, each in found.items()
            ]
    return rows


def _over_seeds(
    recipe: Recipe,
    train: Sequence[Photograph],
    fit: Sequence[Photograph],
    sets: Mapping[str, Sequence[Photograph]],
) -> dict[str, list[Metrics]]:
    """Metrics of each set of photographs; ``fit`` are those that scores are calibrated on."""
    found: dict[str, list[Metrics]] = {name: [] for name in sets}
    for seed in SEEDS:
        _log.info(f"{recipe}, seed {seed}")
        model = _trained(recipe, train, seed)
        calibration = fit_calibration(*_image_logits(model, fit)) or (1.0, 0.0)
        for name, photographs in sets.items():
            found[name].append(_measured(model, photographs, calibration))
    return found


def _trained(recipe: Recipe, photographs: Sequence[Photograph], seed: int) -> AdaCLIP:
    backbone = {name: SMALL_MODEL[name] for name in ("backbone", "backbone_weights")}
    model = load_adaclip(**backbone, image_size=SIZE, seed=seed)
    optimizer = make_optimizer(model, lr=recipe.lr)
    rng = np.random.default_rng([seed, 7])
    for _ in range(EPOCHS):
        order = rng.permutation(len(photographs))
        for first in range(0, len(order), recipe.batch_size):
            some = [photographs[i] for i in order[first : first + recipe.batch_size]]
            images, masks, categories = zip(*some, strict=True)
            labels = torch.tensor([int(mask.any()) for mask in masks])
            batch = torch.from_numpy(np.stack(images)), list(categories), labels
            training_step(
                model, optimizer, *batch, torch.from_numpy(np.stack(masks)), dice=recipe.dice
            )
    return model


def _image_logits(
    model: AdaCLIP, photographs: Sequence[Photograph]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    found = [model.predict(each.image[None], [each.category]) for each in photographs]
    logits = np.array([each.score_logit.item() for each in found])
    return logits, np.array([int(each.mask.any()) for each in photographs])


def _measured(
    model: AdaCLIP, photographs: Sequence[Photograph], calibration: tuple[float, float]
) -> Metrics:
    """Means over the categories, but for the calibration errors."""
    by_category: dict[str, list[Photograph]] = {}
    for each in photographs:
        by_category.setdefault(each.category, []).append(each)
    rows, all_logits, all_labels = [], [], []
    for some in by_category.values():
        pixels, logits = PixelHistogram(), []
        for each in some:
            found = model.predict(each.image[None], [each.category])
            logits.append(found.score_logit.item())
            pixels.add(render(found.logit_grid[0].numpy(), SIZE, SIGMA), each.mask)
        labels = np.array([int(each.mask.any()) for each in some])
        rows.append(image_metrics(np.array(logits), labels) | pixels.metrics())
        all_logits += logits
        all_labels += labels.tolist()
    z, labels = np.array(all_logits), np.array(all_labels)
    names = [name for name in rows[0] if not name.endswith("_error")]
    scale, shift = calibration
    return {name: float(np.mean([row[name] for row in rows])) for name in names} | {
        "calibration_error": calibration_error(reliability(expit(z), labels)),
        "calibrated_error": calibration_error(reliability(expit(scale * z + shift), labels)),
    }


def _summary(found: Sequence[Mapping[str, float]]) -> Metrics:
    values = {name: [each[name] for each in found] for name in found[0]}
    means = {name: float(np.mean(each)) for name, each in values.items()}
    return means | {f"{name}_spread": float(np.std(each)) for name, each in values.items()}


def _training_line(number: int, count: int, seed: int) -> list[Photograph]:
    return list(_line(TRAIN_CATEGORIES[number], 100 + number, count, seed))


def _test_lines(count: int) -> list[Photograph]:
    """Of products that took no part in the small model's backbone either."""
    lines = [partial(_line, name, 500 + i) for i, name in enumerate(TEST_CATEGORIES)]
    return [each for line in lines for each in line(max(2, round(0.8 * count)), 2)]


def _invented_lines(count: int) -> list[Photograph]:
    lines = [_line(INVENTED, 900 + i, max(2, round(0.5 * count)), 3) for i in range(6)]
    return [each for line in lines for each in line]


def _line(category: str, line: int, count: int, seed: int) -> Iterator[Photograph]:
    """Good and damaged parts in turn."""
    rng = np.random.default_rng([seed, line])
    kinds = CATEGORIES[category].defects if category in CATEGORIES else OBJECT_DEFECTS
    for i in range(count):
        defect = kinds[i // 2 % len(kinds)] if i % 2 else "good"
        sample = generate_line(category, line, 1000 * seed + i, defect, size=DRAWN)
        buffer = io.BytesIO()
        Image.fromarray(sample.image).save(buffer, "JPEG", quality=int(rng.integers(*QUALITY)))
        mask = Image.fromarray(255 * sample.mask.astype(np.uint8))
        mask = mask.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        yield Photograph(
            preprocess(buffer.getvalue(), SIZE),
            np.asarray(mask) > 127,
            "product" if category == INVENTED else category,
        )
