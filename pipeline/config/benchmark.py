"""The benchmark job's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from .checks import check_at_least, refuse_credentials
from .job import JobConfig
from .model import ModelSpec, NamedModelConfig

Part = Literal[
    "model",
    "job",
    "feeding",
    "overhead",
    "training",
    "references",
    "categories",
    "listing",
    "tiles",
    "shards",
    "queries",
    "evaluation",
    "filters",
    "recipes",
]
SIZING: tuple[Part, ...] = ("model", "job")


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(NamedModelConfig, JobConfig):
    """Measure this machine or cluster, and work out what a larger run would take.

    Prints tables, and writes JSON with hardware, versions and settings. Images are generated; with
    --backbone-weights none and --checkpoint none, so are the weights, and nothing is downloaded.
    Exit codes: 0 done, 1 failed, 2 the command can't be carried out as given, 130 interrupted.
    """

    GROUP: ClassVar = "measurement"
    COMMON: ClassVar = "part model images price_per_gpu_hour precision batch_size output address"
    EXAMPLE: ClassVar = "adaclip benchmark --images 1e6 --price-per-gpu-hour 3"

    part: tuple[Part, ...] = ()
    """What to measure. Repeat for more. Default: model and job. "model": the stages of a forward
    pass, beside two plain passes of the image tower, the floor. "job": the whole job. "feeding":
    the whole job with a scorer of known speed, which only waits. "overhead": the whole job with a
    scorer that answers at once, beside Ray's read_images. "training": a training step, and what
    comes before the first. "references": making references, and
    scoring with them. "categories": the same of many categories, with the small model. "listing":
    what a night costs before its first image. "tiles": what they find in large frames, and cost,
    with the small model. "shards": images in tar shards beside the same as objects, and beside
    Ray's own reader of shards, with a scorer that answers at once. "queries": questions to a
    table of 300 nights, on S3 with --work, else beside DuckDB, which must be installed.
    "evaluation": pixel metrics of maps and masks, beside the same by sorting. "filters": pixel
    metrics of generated parts, their maps filtered as probabilities and as logits. "recipes": how
    good weights become by dice, batch size and learning rate, over three seeds; an hour."""
    num_images: tuple[int, ...] = ()
    """Images of the whole-job parts or of a reference set, objects of "listing", maps of
    "evaluation", or parts of each category of "filters" and "recipes". Repeat for a series; each
    whole job runs in a process of its own. Default: 64 for "job"; 1000 and 10000 for "overhead";
    about 30 s of images for "feeding"; 8 for "references"; 100000 and 1000000 for "listing"; 4
    frames of each category for "tiles"; 2000 and 20000 for "shards"; 1000000 rows for "queries";
    10000 maps for "evaluation"; 20 for "filters"; 38 for "recipes"."""
    photo_size: tuple[int, ...] = ()
    """Side in pixels of the generated JPEGs. Repeat for a series. Default: 1024; 128 for
    "overhead" and "shards"."""
    scorer_rate: tuple[float, ...] = ()
    """Images/s of each scorer of known speed. Repeat for a series. Default: 10, 30, 100, 300 and
    1000."""
    images: float | None = None
    """Project time and money for so many images, as in 1e9, from the rate measured by "job"."""
    price_per_gpu_hour: float | None = None
    """Price of a scorer's GPU (or of its CPUs) for an hour, in any currency."""

    checkpoint: str = "all"
    """AdaCLIP weights, as of the scoring job; "none" = random weights."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """As of the scoring job."""
    decoder: Literal["exact", "fast"] = "exact"
    """As of the scoring job."""
    batch_size: tuple[int, ...] = ()
    """Images a forward pass; a series for "model", "training" and "references". Default: the
    scoring job's; 1, 4, 8 and 16 for "training"."""
    num_actors: tuple[int, ...] = ()
    """Copies of the model; a series for "feeding". Default: the scoring job's."""
    gpus_per_actor: float | None = None
    """As of the scoring job."""
    num_workers: tuple[int, ...] = ()
    """Training processes, each with batches of that size. Repeat for a series. Default: 1 and 2."""
    num_threads: int | None = None
    """Of PyTorch, in the parts that run without Ray. Default: PyTorch's."""
    num_steps: int = 5
    """Repetitions that count, after one that doesn't; the median is told."""

    work: str | None = None
    """Folder for generated images and results, reachable by every node. Default: a temporary one,
    on a single machine."""
    num_cpus: int | None = None
    """CPUs of the Ray that is started here. Default: those of the machine, at least 2."""
    output: str | None = None
    """File that receives the JSON. Default: none is written."""
    note: str = ""
    """Stands in the JSON: what else the machine was doing, say."""
    address: str | None = None
    """Ray cluster to measure. Default: the one this job was submitted to ($RAY_ADDRESS), else a new
    one on this machine, where "feeding" simulates the scorers' GPUs."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        refuse_credentials(self)
        self._settle_model()
        series = ("num_images", "photo_size", "batch_size", "num_actors", "num_workers")
        for name in series:
            for value in getattr(self, name):
                check_at_least(f"--{name.replace('_', '-')}", value, 1)
        check_at_least("--num-steps", self.num_steps, 1)
        check_at_least("--num-threads", self.num_threads, 1)
        check_at_least("--num-cpus", self.num_cpus, 2)
        check_at_least("--images", self.images, 1)
        check_at_least("--price-per-gpu-hour", self.price_per_gpu_hour, 0)
        if not all(0 < rate < math.inf for rate in self.scorer_rate):
            raise ValueError("--scorer-rate must be positive numbers of images/s")
        if self.price_per_gpu_hour is not None and self.images is None:
            raise ValueError("--price-per-gpu-hour needs --images, the number to project for")
        if self.images is not None and "job" not in self.parts:
            raise ValueError('--images projects from the rate of --part "job"; measure it as well')

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is measured, once each, in the order given."""
        return tuple(dict.fromkeys(self.part)) or SIZING

    @property
    def model_spec(self) -> ModelSpec:
        """The model that the flags name."""
        return self._spec(self.checkpoint, self.precision)
