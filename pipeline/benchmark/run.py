"""All parts of the benchmark: measure, tell, and keep the figures with what they depend on."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import Any

from pipeline.config import BenchmarkConfig
from pipeline.provenance import versions
from pipeline.storage import absolute, write_object

from . import projection
from .evaluation import measure_evaluation
from .forward import measure_forward
from .forward import shown as forward_shown
from .listing import measure_listing
from .machine import hardware, in_own_process
from .many_categories import measure_categories
from .map_filters import measure_filters
from .overhead import measure_overhead
from .queries import measure_queries
from .recipes import measure_recipes
from .references import measure_references
from .scoring_node import on_scoring_node
from .shards import measure_shards
from .tables import table
from .tiles import measure_tiles
from .training import measure_training
from .training_start import measure_start
from .whole_job import measure_feeding, measure_job

_log = logging.getLogger(__name__)

# Parts without Ray, measured where the job's driver is.
ON_DRIVER = {
    *("training", "references", "categories", "listing", "tiles", "queries", "evaluation"),
    "filters",
    "recipes",
}

# Column of a terminal's table and its format, by part.
JOB = {"images": ",d", "photo_size": "d", "num_actors": "d", "images_per_s": ".3g"}
JOB |= {"steady_images_per_s": ".3g", "ms_per_image": ".2f", "read_ms_per_image": ".2f"}
COLUMNS: dict[str, dict[str, str]] = {
    "job": JOB | {"bytes_per_image": ",.0f", "busy_cpus": ".0%"},
    "feeding": {
        "photo_size": "d",
        "num_actors": "d",
        "bare_images_per_s": "g",
        "images_per_s": ".3g",
        "share_of_bare": ".1%",
        "steady_share_of_bare": ".1%",
        "read_ms_per_image": ".2f",
        "busy_cpus": ".0%",
        "limited_by": "s",
    },
    "overhead": {
        "way": "s",
        **JOB,
        "times": ".2f",
        "first_rows_s": ".1f",
        "first_rows_again_s": ".1f",
        "list_again_s": ".2f",
        "busy_cpus": ".0%",
    },
    "training": {
        "step": "s",
        "step_s": ".3f",
        "images_per_s": ".3g",
        "cpu_s_per_image": ".3f",
        "step_memory_bytes": ",d",
    },
    "start": {"process": "s", "cpu_s": ".2f", "with_pytorch": "d", "seconds": ".1f"},
    "building": {
        "way": "s",
        "images": "d",
        "score_s": ".2f",
        "build_s": ".2f",
        "ratio": ".3f",
        "looks": "d",
        "set_bytes": ",d",
        "bytes_per_look": ",d",
    },
    "scoring": {
        "batch_size": "d",
        "references": "d",
        "looks": "d",
        "without_s": ".3f",
        "with_s": ".3f",
        "ratio": ".3f",
    },
    "stages": {"stage": "s", "batch_size": "d", "s": ".4f", "share": ".2%", "gflops": ",.1f"},
    "categories": {
        "order": "s",
        "categories": "d",
        "images": ",d",
        "loads": ",d",
        "peak_bytes": ",d",
        "images_per_s": ".3g",
        "loss": ".1%",
        "alone_loss": ".1%",
    },
    "finding": {
        "way": "s",
        "score": "s",
        "defect_px": "d",
        "frames": "d",
        "tiles": "d",
        "image_auroc": ".1%",
        "image_ap": ".1%",
        "pixel_auroc": ".1%",
        "pixel_ap": ".1%",
        "pixel_aupro": ".1%",
    },
    "cost": {"way": "s", "images": "d", "rows": "d", "tiles": "d", "s": ".3f", "ratio": ".3f"},
    "shards": {
        "read_as": "s",
        "rows": ",d",
        "errors": ",d",
        "seconds": ".1f",
        "images_per_s": ",.1f",
        "steady_images_per_s": ",.1f",
        "busy_cpus": ".0%",
    },
    "queries": {
        "question": "s",
        "reader": "s",
        "rows": ",d",
        "found": ",d",
        "s": ".2f",
        "cpu_s": ".2f",
        "requests": ",d",
        "peak_bytes": ",d",
    },
    "listing": {
        "objects": ",d",
        "new": ",d",
        "ledger_cpu_s": ".2f",
        "manifest_cpu_s": ".2f",
        "generating_cpu_s": ".2f",
        "imports_bytes": ",d",
        "peak_bytes": ",d",
        "read_bytes": ",d",
        "table_bytes": ",d",
    },
    "evaluation": {
        "maps": ",d",
        "regions": ",d",
        "render_ms": ".2f",
        "measure_ms": ".2f",
        "peak_bytes": ",d",
        "peer_maps": "d",
        "peer_curves_ms": ".1f",
        "peer_ms": ".1f",
        "peer_curves_times": ".1f",
        "peer_times": ".1f",
        "difference": ".1e",
    },
    "recipes": {
        "dice": "s",
        "batch_size": "d",
        "lr": "g",
        "products": "s",
        "image_auroc": ".1%",
        "image_auroc_spread": ".1%",
        "pixel_auroc": ".1%",
        "pixel_ap": ".1%",
        "pixel_ap_spread": ".1%",
        "pixel_aupro": ".1%",
        "calibration_error": ".3f",
        "calibrated_error": ".3f",
    },
    "filters": {
        "logits_times": "d",
        "filtered": "s",
        "ranked": "s",
        "images": "d",
        "pixel_auroc": ".2%",
        "pixel_ap": ".2%",
        "pixel_max_f1": ".2%",
        "pixel_aupro": ".2%",
    },
}


def run_benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Measure every part, one after the other.

    Args:
        config: the job's settings.

    Returns:
        The document that the JSON holds: hardware of the node that scores (of this one, if no part
        needs another), versions, settings, and results by part.

    Raises:
        CannotRunError: as the scoring job, or the cluster's nodes share no folder.
        ValueError: the measured job gives no rate to project from.
        StorageError: the JSON can't be written.
    """
    results: dict[str, Any] = {}
    document = {
        "benchmark": list(config.parts),
        "hardware": _hardware_of(config),
        "versions": versions(),
        "settings": asdict(config),
        "note": config.note,
        "results": results,
    }
    for part in config.parts:
        _log.info(f"measuring: {part}")
        results[part] = _measure(part, config)
        if part == "job" and config.images is not None:
            price = config.price_per_gpu_hour
            document["projection"] = projection.project(
                results[part][-1], config.images, price_per_gpu_hour=price
            )
        if config.output:  # after every part: a later one that fails takes nothing away
            text = json.dumps(document, indent=2) + "\n"
            write_object(absolute(config.output), text.encode())
    return document


def _hardware_of(config: BenchmarkConfig) -> dict[str, Any]:
    # A driver that holds a cluster's only GPU would wait for a second one without end.
    if set(config.parts) <= ON_DRIVER:
        return in_own_process(hardware)
    return on_scoring_node(config, hardware)


def _measure(part: str, config: BenchmarkConfig) -> Any:
    match part:
        case "model":
            return on_scoring_node(config, measure_forward, config)
        case "job":
            return measure_job(config)
        case "feeding":
            return measure_feeding(config)
        case "overhead":
            return measure_overhead(config)
        case "training":
            return {"training": measure_training(config), "start": measure_start(config)}
        case "references":
            return in_own_process(measure_references, config)
        case "categories":
            return in_own_process(measure_categories, config)
        case "listing":
            return measure_listing(config)
        case "queries":
            return measure_queries(config)
        case "tiles":
            return in_own_process(measure_tiles, config)
        case "shards":
            return measure_shards(config)
        case "evaluation":
            return measure_evaluation(config)
        case "filters":
            return in_own_process(measure_filters, config)
        case "recipes":
            return in_own_process(measure_recipes, config)
    raise AssertionError(part)


def shown(document: dict[str, Any]) -> str:
    """The document's results as tables for a terminal."""
    texts = [_hardware(document["hardware"])]
    for part, found in document["results"].items():
        if part == "model":
            texts += [forward_shown(result) for result in found]
        elif isinstance(found, dict):
            texts += [f"{part}: {n}\n{table(rows, COLUMNS[n])}" for n, rows in found.items()]
        else:
            texts.append(f"{part}\n{table(found, COLUMNS[part])}")
    if "projection" in document:
        texts.append(projection.table(document["projection"]))
    return "\n\n".join(texts)


def _hardware(found: dict[str, Any]) -> str:
    gpus = f", {found['num_gpus']} x {found['gpu']}" if found["gpu"] else ", no GPU"
    memory = found["memory_bytes"] / 1e9
    return f"{found['cpu']}, {found['cores']} cores, {memory:.0f} GB{gpus}"
