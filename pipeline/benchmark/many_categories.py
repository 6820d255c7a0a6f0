"""Many categories with references in one scorer: sorted, and in any order.

On the small model, whose images take so little time that reading sets is felt. Also without
references: in any order, the model is told more class names a batch, which takes time as well.
"""

from __future__ import annotations

import random
import tempfile
from functools import partial
from typing import Any

import torch

from pipeline.config import BenchmarkConfig, ModelSpec
from pipeline.distributed.predictor import Predictor
from pipeline.distributed.references.builder import ReferenceBuilder
from pipeline.distributed.references.judges import Judges
from pipeline.distributed.scorer import pixels_of
from pipeline.models.text import sentence_tree
from pipeline.output.reference_catalogue import ReferencesInUse
from pipeline.packaged import IMAGE_SIZE, SMALL_MODEL

from .reference_sets import (
    NUM_IMAGES,
    actor_arguments,
    build_set,
    default_batch_size,
    generated_rows,
    in_parts,
    names_of,
    write_copies,
)
from .timing import Stopwatch, conditions, median_s, rounded, steadier

NUM_CATEGORIES = 1_000
IMAGES_EACH = 4
HELD_SHARE = 0.1  # of the categories, for which a scorer has memory
TURN = 400  # images: more batches than those whose class names the model remembers, 16
NUM_LOADS = 20  # sets that are timed one by one
CONTEXT_LENGTH = 77  # tokens of a sentence


class _Scorer:
    """A predictor with references, and the most memory that they took."""

    def __init__(self, how: dict[str, Any], judges: Judges, batch_size: int) -> None:
        self._predictor, self._batch_size = Predictor(**how, judges=judges), batch_size
        rows = generated_rows(range(NUM_IMAGES, NUM_IMAGES + batch_size), IMAGE_SIZE)
        self._pixels, self._images = pixels_of(rows["pixels"], IMAGE_SIZE), names_of(rows)
        self.judges = judges
        self.peak_bytes = 0

    def score(self, categories: list[str]) -> None:
        """An image of each, batch by batch."""
        for names in in_parts(categories, self._batch_size):
            count = len(names)
            self._predictor.score(self._pixels[:count], names, self._images[:count])
            self.peak_bytes = max(self.peak_bytes, self.judges.nbytes)


def measure_categories(
    config: BenchmarkConfig, num_categories: int = NUM_CATEGORIES
) -> list[dict[str, Any]]:
    """A row for each order of the images, with references and without; in this process."""
    how, batch_size = actor_arguments(config, ModelSpec(**SMALL_MODEL)), default_batch_size(config)
    names = [f"part {number:04d}" for number in range(num_categories)]
    for name in names:  # made once, whichever order meets the name first
        sentence_tree(name, CONTEXT_LENGTH)
    builder = ReferenceBuilder(**how, batch_size=batch_size)
    made = build_set(builder, generated_rows(range(NUM_IMAGES), IMAGE_SIZE), unlabelled=False)
    with tempfile.TemporaryDirectory() as folder:
        known = write_copies(folder, names, *made)
        return _measure(how, known, batch_size)


def _measure(how: dict[str, Any], known: ReferencesInUse, batch_size: int) -> list[dict[str, Any]]:
    device = torch.device("cuda" if how["gpus"] else "cpu")
    watch = Stopwatch(device)
    for name in list(known.sets)[:NUM_LOADS]:
        watch("load", partial((one := Judges(known)).of, [name], device))
    held = round(HELD_SHARE * len(known.sets))
    images = [name for name in known.sets for _ in range(IMAGES_EACH)]
    orders = {"sorted": images, "shuffled": random.Random(0).sample(images, len(images))}
    alone = _Scorer(how, Judges(ReferencesInUse()), batch_size)
    alone.score(images[:batch_size])  # warms up
    scorers = {
        order: _Scorer(how, Judges(known, held * one.nbytes), batch_size) for order in orders
    }
    for first in range(0, len(images), TURN):
        for order, categories in orders.items():
            turn = categories[first : first + TURN]
            watch(order, partial(scorers[order].score, turn))
            watch(f"{order}, alone", partial(alone.score, turn))

    def seconds(name: str) -> float:
        return sum(steadier(watch[name], device))

    return [
        {
            "order": order,
            "categories": len(known.sets),
            "images": len(images),
            "batch_size": batch_size,
            "held": held,
            "max_bytes": held * one.nbytes,
            "peak_bytes": scorer.peak_bytes,
            "loads": scorer.judges.num_loads,
            "load_s": median_s(watch["load"], device),
            "images_per_s": rounded(len(images) / seconds(order)),
            "loss": rounded(1 - seconds("sorted") / seconds(order)),
            "alone_images_per_s": rounded(len(images) / seconds(f"{order}, alone")),
            "alone_loss": rounded(1 - seconds("sorted, alone") / seconds(f"{order}, alone")),
            **conditions(device),
        }
        for order, scorer in scorers.items()
    ]
