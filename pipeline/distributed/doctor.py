"""Whether a run can succeed, looked at step by step as a run would take them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from pipeline.config import DoctorConfig, ModelSpec
from pipeline.errors import CannotRunError
from pipeline.identity import ModelIdentity
from pipeline.images.extras import PACKAGES, installed
from pipeline.inputs.manifest import Manifest, pending_images
from pipeline.output.ledger import IdSet
from pipeline.provenance import versions
from pipeline.redaction import redact
from pipeline.storage import StorageError, absolute, delete_objects, read_object, write_object
from pipeline.terminal import clean, duration

from .cluster import planned, run_as_scorer
from .loading import load_model
from .reader import read_images
from .resources import Resources

LOOKED_AT = 16  # images at most, until one can be read
EXPECTED = (CannotRunError, StorageError, ValueError, OSError, pa.ArrowException)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    text: str
    """What there is, or what is wrong and what to do."""

    def line(self) -> str:
        """For a terminal."""
        return f"{self.name:<9}{'yes' if self.ok else 'NO ':<5}{clean(redact(self.text), 600)}"


def examine(config: DoctorConfig) -> Iterator[Finding]:
    """Every step, as soon as it was looked at; one that fails doesn't hide the next.

    Args:
        config: without input or output, those are passed over.
    """
    look = _Look(config)
    steps: dict[str, Callable[[], str]] = {"packages": _packages, "machine": _machine}
    if config.input:
        steps |= {"input": look.input, "image": look.image}
    if config.output:
        steps |= {"output": look.output}
    steps |= {"weights": look.weights, "ray": look.ray, "speed": look.speed}
    for name, step in steps.items():
        try:
            yield Finding(name, True, step())
        except EXPECTED as error:
            yield Finding(name, False, str(error) or type(error).__name__)


def _packages() -> str:
    found = versions()
    if lacking := [name for name, version in found.items() if version == "not installed"]:
        raise ValueError(f"{', '.join(lacking)}: not installed; pip install -e . does it")
    told = ", ".join(f"{name} {version}" for name, version in found.items())
    missing = [extra for extra in PACKAGES if extra not in installed()]
    if missing:  # no fault: most buckets hold JPEG and PNG
        told += f"; without {' and '.join(f'[{extra}]' for extra in missing)} (docs/inputs.md)"
    return told


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{len(os.sched_getaffinity(0))} CPUs, {memory / 1e9:.0f} GB of memory"


class _Look:
    """What one step finds and a later one needs."""

    def __init__(self, config: DoctorConfig) -> None:
        self._config, self._scoring = config, config.score_config()
        self._rows: pa.Table | None = None
        self._square: dict[str, Any] | None = None
        self._tiles = 1
        self._resources: Resources | None = None
        self._has_weights = False

    def input(self) -> str:
        manifest = Manifest("")
        listed = pending_images(self._scoring, ModelIdentity(""), IdSet(), manifest)
        self._rows = next(listed, None)
        where = ", ".join(self._config.input)
        if self._rows is None:
            left_out = f"; flags leave {manifest.excluded:,} out" if manifest.excluded else ""
            raise ValueError(f"there is no object below {where}{left_out}; check the prefix")
        more = " or more" if next(listed, None) is not None else ""
        names = ", ".join(str(name) for name in list(manifest.categories)[:5])
        return f"{len(self._rows):,} objects{more} below {where}, of the classes {names}"

    def image(self) -> str:
        if self._rows is None:
            raise ValueError("no image was found to look at")
        config, problem = self._config, ""
        for block in read_images(
            self._rows[:LOOKED_AT],
            image_size=config.image_size,
            max_megapixels=config.max_megapixels,
            decoder=config.decoder,
            gray_range=config.gray_range,
            tiling=self._scoring.tiling,
            side=self._scoring.tile_side,
            apart=True,
        ):
            for row in block.to_pylist():
                if row["error"] is None:
                    self._square = row
                    size, side = (row["width"], row["height"]), self._scoring.tile_side
                    self._tiles = self._scoring.tiling.layout(*size, side=side).num_tiles
                    many = f"{self._tiles} tiles of " if self._tiles > 1 else ""
                    return (
                        f"{row['uri']} has {row['width']:,} x {row['height']:,} pixels and becomes "
                        f'{many}{config.image_size} x {config.image_size}; the model is told "'
                        f'{row["category"]}"{problem}'
                    )
                problem = f" ({row['uri']} can't be used: {row['error']}: {row['error_message']})"
        raise ValueError(f"none of the first images can be used{problem}")

    def output(self) -> str:
        folder = absolute(str(self._config.output))
        local = Path(folder.removeprefix("file://")) if folder.startswith("file://") else None
        new = local is not None and not local.exists()
        probe = f"{folder}/.doctor-{uuid4().hex}"
        write_object(probe, b"adaclip doctor")
        read_object(probe)
        delete_objects([probe])
        if local is not None and new:
            local.rmdir()
        return f"{self._config.output} can be written, read and deleted from"

    def weights(self) -> str:
        self._scoring.check_weights()
        spec = self._scoring.model_spec
        self._has_weights = True
        parts = f"{spec.checkpoint} on {spec.backbone} ({spec.backbone_weights})"
        return self._config.model or parts

    def ray(self) -> str:
        self._resources = planned(self._scoring)
        found = ray.cluster_resources()
        gpus = f"{found['GPU']:g} GPUs" if found.get("GPU") else "no GPU"
        where = self._config.address or "this machine"
        actors = self._resources.num_actors
        return f"{where}: {found.get('CPU', 0):g} CPUs, {gpus}; copies of the model: {actors}"

    def speed(self) -> str:
        if self._resources is None or not self._has_weights:
            raise ValueError("not measured; it takes Ray and weights")
        plan, config, size = self._resources, self._config, self._config.image_size
        row = self._square or {"pixels": bytes(3 * size * size), "category": "object"}
        pixels = np.frombuffer(row["pixels"], np.uint8).reshape(1, size, size, 3)
        told = run_as_scorer(
            self._scoring, measure, config.model_spec, pixels, row["category"], plan
        )
        seconds = told["seconds"] * self._tiles
        total = duration(seconds * config.images / plan.num_actors)
        rate = f"{seconds:.3g} s per image on {told['device']}"
        return f"{rate}; {config.images:,.0f} images take {total} or more"


def measure(
    model: ModelSpec, pixels: NDArray[np.uint8], category: str, plan: Resources
) -> dict[str, Any]:
    """Seconds per image and name of the device, in a process that has what a scorer gets.

    Args:
        model: which.
        pixels: uint8 [1, S, S, 3].
        category: class name.
        plan: on a GPU, a whole batch counts.

    Raises:
        ValueError: there is no such model.
    """
    import torch  # not above: the driver needs none

    from pipeline.images.normalising import normalise_

    gpu = bool(plan.gpus_per_actor)
    if not gpu:
        torch.set_num_threads(plan.cpus_per_actor + 1)
    device = torch.device("cuda" if gpu else "cpu")
    loaded = load_model(model, device)
    count = plan.batch_size if gpu else 1
    square = torch.from_numpy(np.repeat(pixels, count, axis=0)).to(device)
    images = normalise_(square.permute(0, 3, 1, 2).float().div_(255.0), *loaded.pixels)
    for _ in range(2):  # the first one prepares
        started = time.monotonic()
        loaded.predict(images, [category] * count).score.cpu()
        seconds = (time.monotonic() - started) / count
    name = f"{torch.get_num_threads()} CPU threads"
    if gpu:
        held = torch.cuda.get_device_properties(device)
        name = f"{held.name} with {held.total_memory / 1e9:.0f} GB"
    return {"seconds": seconds, "device": name}
