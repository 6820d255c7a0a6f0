"""What references cost: making a set, and scoring with it, beside scoring without.

Whatever is compared takes turns in one process. No Ray; images are generated, and read already.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import torch

from pipeline.config import BenchmarkConfig
from pipeline.distributed.predictor import Predictor, judge_batch
from pipeline.distributed.references.builder import ReferenceBuilder
from pipeline.distributed.references.judges import Judges
from pipeline.distributed.scorer import AnomalyScorer, pixels_of
from pipeline.models import FrozenPass
from pipeline.output.reference_catalogue import ReferencesInUse
from pipeline.references import SAMPLE_SIZE, Gaussian, Judge, ReferenceSet, normalise

from .reference_sets import (
    CATEGORY,
    NUM_IMAGES,
    actor_arguments,
    build_set,
    default_batch_size,
    generated_rows,
    in_parts,
    names_of,
    on_gpu,
    write_copies,
)
from .stages import Watch, count_flops
from .timing import Stopwatch, Timing, conditions, median_s, rounded, steadier

WITHOUT = "metal cap"  # without references; as many tokens as CATEGORY
WAYS = {"known good": False, "unlabelled": True}


def measure_references(config: BenchmarkConfig) -> dict[str, list[dict[str, Any]]]:
    """Making sets of each number of images, and scoring at each batch size.

    In this process.

    Returns:
        Rows by table: "building", "scoring", and the "stages" that references change.

    Raises:
        ValueError: there is no such model, or there are too few images.
    """
    how = actor_arguments(config, config.model_spec)
    counts = config.num_images or (NUM_IMAGES,)
    rows = generated_rows(range(max(counts)), config.image_size)
    building, data, told = _building(config, how, [rows[:count] for count in counts])
    sizes = config.batch_size or (default_batch_size(config),)
    others = generated_rows(range(len(rows), len(rows) + max(sizes)), config.image_size)
    with tempfile.TemporaryDirectory() as folder:
        known = write_copies(folder, [CATEGORY], data, told)
        predictor = Predictor(**how, judges=Judges(known))
        measure = partial(measure_scoring, predictor, known, data, repeats=config.num_steps)
        scoring = [measure(others[:size]) for size in sizes]
    return {
        "building": building,
        "scoring": [row for row, _ in scoring],
        "stages": [stage for _, stages in scoring for stage in stages],
    }


def _building(
    config: BenchmarkConfig, how: Mapping[str, Any], tables: Sequence[pa.Table]
) -> tuple[list[dict[str, Any]], bytes, dict[str, Any]]:
    """Rows of all tables of images; the file of a set of the first's, and what is told of it."""
    batch_size = (config.batch_size or (default_batch_size(config),))[0]
    scorer = AnomalyScorer(**how)
    builder = ReferenceBuilder(**how, batch_size=batch_size)
    scorer(tables[0][:batch_size])
    data, told = build_set(builder, tables[0], unlabelled=False)  # both have warmed up now
    device = torch.device("cuda" if on_gpu(config) else "cpu")
    measure = partial(
        measure_building, scorer, builder, device, batch_size=batch_size, repeats=config.num_steps
    )
    return [row for rows in tables for row in measure(rows)], data, told


def measure_building(
    scorer: AnomalyScorer,
    builder: ReferenceBuilder,
    device: torch.device,
    rows: pa.Table,
    *,
    batch_size: int,
    repeats: int,
) -> list[dict[str, Any]]:
    """Sets of known-good and of unlabelled images, in turns with scoring the same images."""
    watch, made = Stopwatch(device), {}
    for _ in range(repeats):
        watch("score", lambda: [scorer(batch) for batch in in_parts(rows, batch_size)])
        for way, unlabelled in WAYS.items():
            made[way], _ = watch(way, partial(build_set, builder, rows, unlabelled=unlabelled))
    whole = len(rows) <= SAMPLE_SIZE
    return [
        {
            "way": way,
            "images": len(rows),
            "full_passes": min(len(rows), SAMPLE_SIZE),
            "frozen_passes": 0 if whole else len(rows),
            "batch_size": batch_size,
            "score_s": median_s(watch["score"], device),
            "build_s": median_s(watch[way], device),
            "ratio": ratio(watch[way], watch["score"], device),
            **_sizes(ReferenceSet.from_bytes(data), len(data)),
            **conditions(device),
        }
        for way, data in made.items()
    ]


def ratio(ours: Timing, other: Timing, device: torch.device) -> float:
    """Median of the ratios of neighbouring calls, which hold while a machine gets slower."""
    pairs = zip(steadier(ours, device), steadier(other, device), strict=True)
    return rounded(statistics.median(a / b for a, b in pairs))


def _sizes(references: ReferenceSet, num_bytes: int) -> dict[str, int]:
    looks = [sum(each.nbytes for each in x.tensors().values()) for x in references.looks]
    return {
        "references": len(references.images),
        "looks": len(looks),
        "set_bytes": num_bytes,
        "bytes_per_look": max(looks),
        "embedding_bytes": references.embeddings[0].nbytes,
    }


def measure_scoring(
    predictor: Predictor, known: ReferencesInUse, data: bytes, rows: pa.Table, *, repeats: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A batch with references, in turns with the same batch without.

    Args:
        known: the predictor's references, a set of ``CATEGORY`` in a folder.
        data: the set's file.
        rows: the batch; no references.

    Returns:
        A row, and a row for each stage that makes the difference.
    """
    device, references = predictor.device, ReferenceSet.from_bytes(data)
    pixels, images = pixels_of(rows["pixels"], predictor.image_size), names_of(rows)
    names = {"without": [WITHOUT] * len(rows), "with": [CATEGORY] * len(rows)}
    seen = predictor.model.predict(predictor.upload(pixels), names["with"], keep_frozen=True)
    gaussian = Gaussian.fit(references.looks[0].sums).to(device)
    assert seen.frozen is not None
    stages = partial(_stages, seen.frozen, gaussian)
    judge, watch = Judge(references, device), Stopwatch(device)
    for turn in range(1 + repeats):
        for name, categories in names.items():
            watch(name, partial(predictor.score, pixels, categories, images))
        stages(watch)
        watch("all judging", partial(judge_batch, judge, seen, range(len(rows)), images))
        watch("read and fit a set", partial(Judges(known).of, [CATEGORY], device))
        if turn == 0:
            watch.clear()
    row = {
        "batch_size": len(rows),
        "patches": len(rows) * predictor.model.grid**2,
        "references": len(references.images),
        "looks": len(references.looks),
        "without_s": median_s(watch["without"], device),
        "with_s": median_s(watch["with"], device),
        "ratio": ratio(watch["with"], watch["without"], device),
        **conditions(device),
    }
    return row, _stage_rows(watch, count_flops(stages), device, len(rows))


@torch.inference_mode()
def _stages(frozen: FrozenPass, gaussian: Gaussian, watch: Watch) -> None:
    """What references do with the frozen pass's tokens."""
    normal = watch("normalise", lambda: normalise(frozen.tokens))
    watch("distances, one look", lambda: gaussian.distances(normal))


def _stage_rows(
    watch: Stopwatch, flops: Mapping[str, int], device: torch.device, batch_size: int
) -> list[dict[str, Any]]:
    """The share is of the whole time without references."""
    return [
        {
            "stage": name,
            "batch_size": batch_size,
            "s": median_s(watch[name], device),
            "share": ratio(watch[name], watch["without"], device),
            "gflops": rounded(flops[name] / 1e9) if name in flops else None,
        }
        for name in (*flops, "all judging", "read and fit a set")
    ]
