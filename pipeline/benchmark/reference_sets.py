"""Reference sets of generated images, made and kept without Ray, to measure with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import torch

from pipeline.config import BenchmarkConfig, ModelSpec
from pipeline.distributed.loading import load_model
from pipeline.distributed.references.builder import ReferenceBuilder
from pipeline.distributed.resources import CPU_BATCH_SIZE, GPU_BATCH_SIZE
from pipeline.output.reference_catalogue import CatalogueEntry, ReferencesInUse, write_set
from pipeline.references import SAMPLE_SIZE
from pipeline.schema import MANIFEST_SCHEMA, pixel_schema
from pipeline.synthetic import generate_line

PRODUCT = "gear"  # that the images show
CATEGORY = "metal nut"  # that the model is told
NUM_IMAGES = 8  # of a set: the fewest that tell without labels what is normal
BLOCK = 32  # images that a builder is given at a time beyond the sample, as by the job

Items = TypeVar("Items", pa.Table, list[str])


def actor_arguments(config: BenchmarkConfig, model: ModelSpec) -> dict[str, Any]:
    """What scorers, predictors and builders are started with.

    Raises:
        ValueError: there is no such model.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    return {
        "model": model,
        "fingerprint": load_model(model).fingerprint(),
        "gpus": 1.0 if on_gpu(config) else 0.0,
        "num_threads": torch.get_num_threads(),
    }


def default_batch_size(config: BenchmarkConfig) -> int:
    """The scoring job's."""
    return GPU_BATCH_SIZE if on_gpu(config) else CPU_BATCH_SIZE


def on_gpu(config: BenchmarkConfig) -> bool:
    """Whether the settings and this machine have the model on a GPU."""
    return torch.cuda.is_available() and config.gpus_per_actor != 0


def generated_rows(numbers: range, size: int) -> pa.Table:
    """Good parts of one production line, as ``schema.pixel_schema``."""
    blank = dict.fromkeys(MANIFEST_SCHEMA.names) | {"category": CATEGORY}
    images = [generate_line(PRODUCT, 0, i, size=size).image for i in numbers]
    rows = [
        {**blank, "uri": f"s3://line/{i}.png", "etag": "", "pixels": image.tobytes()}
        | {"width": size, "height": size}
        for i, image in zip(numbers, images, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=pixel_schema(size))


def names_of(rows: pa.Table) -> list[tuple[str, str]]:
    """URIs and ETags."""
    return list(zip(rows["uri"].to_pylist(), rows["etag"].to_pylist(), strict=True))


def in_parts(items: Items, size: int) -> Iterator[Items]:
    """One after the other, the last may be smaller."""
    return (items[i : i + size] for i in range(0, len(items), size))


def build_set(
    builder: ReferenceBuilder, rows: pa.Table, *, unlabelled: bool
) -> tuple[bytes, dict[str, Any]]:
    """What the job does for a category: its set's file, and what the catalogue says of it.

    Raises:
        ValueError: there are too few images.
    """
    sample, more = rows[:SAMPLE_SIZE], rows[SAMPLE_SIZE:]
    rest = None
    if len(more):
        screens = builder.screens([sample], None, unlabelled=unlabelled)
        for block in in_parts(more, BLOCK):
            part = builder.add_up(block, screens, unlabelled=unlabelled)
            rest = part if rest is None else rest + part
    return builder.build(CATEGORY, "benchmark", [sample], rest, None, unlabelled=unlabelled)


def write_copies(
    folder: str, names: Sequence[str], data: bytes, told: Mapping[str, Any]
) -> ReferencesInUse:
    """A file for each category, all with the same set."""
    sha256, sets = hashlib.sha256(data).hexdigest(), {}
    for number, name in enumerate(names):
        entry = CatalogueEntry(id=f"{number:016x}", sha256=sha256, **told)
        write_set(folder, entry, data)
        sets[name] = entry.id, sha256
    return ReferencesInUse(folder, sets)
