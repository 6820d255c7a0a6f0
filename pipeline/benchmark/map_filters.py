"""What pixel metrics lose by filtering maps as probabilities, and by rounding them.

Parts on production lines are generated, every other one with a defect, and scored in this process.
The same maps are then measured in several ways, also with larger logits, as of a model that is more
certain: that changes no ranking, but more of their probabilities round to 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from pipeline.anomaly_map import Q8, dequantize, quantize, render, render_logits
from pipeline.config import BenchmarkConfig
from pipeline.distributed.loading import load_model
from pipeline.evaluation import PixelHistogram
from pipeline.images import preprocess
from pipeline.models import AdaCLIP
from pipeline.synthetic import CATEGORIES
from pipeline.synthetic.lines import generate_line

IMAGES = 20  # of each line
TIMES = (1, 4)  # logits are multiplied by
LINE = 1  # whose parts are generated, of each category
SIGMA, SIZE = 4.0, 518  # pixels: the released code's filter, at its size of maps

Map = NDArray[np.float32]


class Way(NamedTuple):
    """How maps are filtered, and what their pixels are ranked by."""

    filtered: str
    """"nothing", "probabilities" or "logits"."""
    ranked: str
    """"logits", or probabilities in "float32" or "float16"."""


def _rounded(values: Map) -> Map:
    return values.astype(np.float16).astype(np.float32)


def _probabilities(logits: Map) -> Map:
    return np.asarray(expit(logits), np.float32)


WAYS: dict[Way, Callable[[Map, int, float], Map]] = {
    Way("probabilities", "float32"): render,
    Way("probabilities", "float16"): lambda *given: _rounded(render(*given)),
    Way("logits", "logits"): render_logits,
    Way("logits", "float32"): lambda *given: _probabilities(render_logits(*given)),
    Way("logits", "float16"): lambda *given: _rounded(_probabilities(render_logits(*given))),
    Way("nothing", "logits"): lambda grid, size, _: render_logits(grid, size),
    Way("nothing", "float32"): lambda grid, size, _: render(grid, size),
    Way("nothing", "float16"): lambda grid, size, _: _rounded(render(grid, size)),
}
"""How a grid becomes a map of a size in pixels, with a filter of some pixels."""


Figures = Mapping[Way, dict[str, float]]


def measure_filters(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """A row for each way: means over the categories of the generator."""
    torch.set_num_threads(config.num_threads or torch.get_num_threads())
    count = (config.num_images or (IMAGES,))[0]
    model, size = load_model(config.model_spec), config.image_size
    found: dict[int, list[Figures]] = {times: [] for times in TIMES}
    for category in CATEGORIES:
        made = list(_grids_and_masks(model, category, count))
        for times, each in found.items():
            larger = ((times * grid, mask) for grid, mask in made)
            each.append(figures(larger, size, SIGMA * size / SIZE))
    return [
        {"logits_times": times, **way._asdict(), "images": count * len(each)}
        | {name: float(np.mean([one[way][name] for one in each])) for name in each[0][way]}
        for times, each in found.items()
        for way in WAYS
    ]


def figures(maps: Iterator[tuple[Map, NDArray[np.bool_]]], size: int, sigma: float) -> Figures:
    """Pixel metrics of logit grids and masks, in every way.

    Args:
        maps: grids [h, w] and masks [size, size].
        size: side of the maps in pixels.
        sigma: of their filter, in pixels.
    """
    histograms = {way: PixelHistogram(logits=way.ranked == "logits") for way in WAYS}
    for grid, mask in maps:
        for way, histogram in histograms.items():
            histogram.add(WAYS[way](grid, size, sigma), mask)
    return {
        way: {k: v for k, v in histogram.metrics().items() if not k.endswith("_error")}
        for way, histogram in histograms.items()
    }


def _grids_and_masks(
    model: AdaCLIP, category: str, count: int
) -> Iterator[tuple[Map, NDArray[np.bool_]]]:
    """As an output keeps them, of parts that are good and damaged in turn."""
    size, kinds = model.settings.image_size, CATEGORIES[category].defects
    for number in range(count):
        defect = kinds[number // 2 % len(kinds)] if number % 2 else "good"
        sample = generate_line(category, LINE, number, defect)
        image = preprocess(Image.fromarray(sample.image), size, *model.pixels)
        grid = model.predict(image[None], [category]).logit_grid[0].numpy()
        mask = np.asarray(Image.fromarray(sample.mask).resize((size, size)))
        yield dequantize(quantize(grid, Q8), Q8), mask
