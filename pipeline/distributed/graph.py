"""The scoring graph on Ray Data: manifest → read → score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from pipeline.config import ScoreConfig
from pipeline.images import Decoder
from pipeline.inputs.manifest import Manifest
from pipeline.output.reference_catalogue import ReferencesInUse
from pipeline.storage import absolute
from pipeline.tiling import WHOLE, Tiling

from .cluster import quiet_data
from .fingerprints import forget
from .manifest_source import ManifestSource, cut
from .reader import read_images
from .reading_log import start_reading_log
from .resources import CPUS_PER_READER, Resources
from .stitching import Stitcher

FIRST_TASKS = 4  # of each scorer: they read one batch each, so that rows come out early
SCORER_THREADS = 2  # one batch is on the device, another comes from there or goes to it


def scored_rows(
    config: ScoreConfig,
    manifest: Manifest,
    resources: Resources,
    *,
    scorer: type,
    model: str,
    references: ReferencesInUse,
) -> Iterator[pa.Table]:
    """Run the graph: tables of ``schema.scored_schema``, in no fixed order, until all are done.

    Args:
        config: the job's settings.
        manifest: with something pending.
        resources: how scorers are laid out.
        scorer: the actor class.
        model: its fingerprint, with the decoder's suffix.
        references: what images are compared with.
    """
    context = quiet_data()
    context.actor_init_retry_on_errors = True  # a download that fails once is no reason to end
    graph = scoring_graph(
        manifest,
        resources,
        image_size=config.image_size,
        max_megapixels=config.max_megapixels,
        decoder=config.decoder,
        gray_range=config.gray_range,
        tiling=config.tiling,
        side=config.tile_side,
        scorer=scorer,
        scorer_arguments={
            "model": config.model_spec,
            "fingerprint": model.removesuffix(config.decoder_suffix),
            "gpus": resources.gpus_per_actor,
            "num_threads": resources.cpus_per_actor + 1,  # the readers' CPU is mostly idle
            "references": references,
            "embeddings": config.embeddings,
            "tiling": tuple(config.tiling),
            "side": config.tile_side,
        },
    )
    stitcher = Stitcher(config.tiling, config.tile_side)
    try:
        for rows in graph.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield stitcher.add(rows)
    except ray.exceptions.RayError:
        forget(config)  # scorers refuse a model that is not the one of the fingerprint
        raise


def scoring_graph(
    manifest: Manifest,
    resources: Resources,
    *,
    image_size: int,
    max_megapixels: float,
    decoder: Decoder = "exact",
    gray_range: tuple[float, float] | None = None,
    tiling: Tiling = WHOLE,
    side: int = 1,
    scorer: type,
    scorer_arguments: dict[str, Any],
) -> ray.data.Dataset:
    """The lazy dataset of scored tiles (``schema.scored_schema``), in no fixed order."""
    read: Any = read_images  # Ray Data's annotations know no generator over Arrow tables
    rows = resources.rows_per_block(image_size, manifest.pending) // tiling.most**2
    tasks = cut(
        list(zip(map(absolute, manifest.files), manifest.file_rows, strict=True)),
        max(1, rows),
        first_rows=resources.batch_size,
        firsts=FIRST_TASKS * resources.num_actors,
    )
    # Resources as those of the map behind it: then Ray Data makes both one task.
    rows_of_tasks = ray.data.read_datasource(
        ManifestSource(tasks), override_num_blocks=len(tasks), num_cpus=CPUS_PER_READER
    )
    scored: ray.data.Dataset = rows_of_tasks.map_batches(
        read,
        fn_kwargs={
            "image_size": image_size,
            "max_megapixels": max_megapixels,
            "decoder": decoder,
            "gray_range": gray_range,
            "tiling": tuple(tiling),
            "side": side,
            "log": start_reading_log(),
        },
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=CPUS_PER_READER,
    ).map_batches(
        scorer,
        fn_constructor_kwargs=scorer_arguments,
        batch_size=resources.batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            size=resources.num_actors,
            max_concurrent_calls_per_actor=SCORER_THREADS,
            # Ray's default is twice as many as threads: another 110 MB of pixels at 518 px.
            max_tasks_in_flight_per_actor=SCORER_THREADS + 1,
            enable_true_multi_threading=True,
        ),
        num_cpus=resources.claimed_cpus,
        num_gpus=resources.gpus_per_actor,
    )
    return scored
