"""The jobs' settings. Every field is a command-line flag; its docstring is the flag's help."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Literal

DEFAULT_CATEGORY_COLUMN = "category"
NONE = "none"  # what the command line calls "random weights"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Score every image below one or more prefixes with AdaCLIP and write Parquet.

    Images that the output already holds under the same model are skipped, so the same command
    continues after a crash and picks up new images. Exit codes: 0 done, 1 failed or too many
    errors, 2 the command can't be carried out as given (nothing was scored), 130 interrupted.
    """

    input: tuple[str, ...]
    """Folders (s3://bucket/prefix, gs://..., a local path), single objects, or lists of URIs: a
    .parquet or .csv file with a column "uri". Repeat for more. S3 credentials, profile and
    endpoint come from the usual AWS variables and files."""
    output: str
    """Folder that receives scores/, maps/ and runs/. Read the scores with
    pandas.read_parquet("<output>/scores")."""

    include: tuple[str, ...] = ()
    """Glob on the key below the prefix, any case; * crosses folders. Repeat for more, as in
    --include "*.jpg" --include "*.png". Default: every object."""
    exclude: tuple[str, ...] = ()
    """Glob of keys to leave out. Repeat for more."""

    category: str | None = None
    """Class name of all images, such as "metal nut". The model is told this name. Without any
    category flag, the first folder below the prefix is the name, or "object" if there is none."""
    category_regex: str | None = None
    """Regular expression with a group (?P<category>...), searched in each URI."""
    category_level: int = 0
    """Which folder below the prefix names the class: 0 the first, -1 the image's own."""
    category_column: str = DEFAULT_CATEGORY_COLUMN
    """Column of an input list that names the class; used where the list has it."""

    backbone: str = "ViT-L-14-336"
    """open_clip model name, or path of an open_clip JSON configuration."""
    backbone_weights: str = "openai"
    """open_clip tag, or path or URI of a state dict; "none" = random weights, for tests."""
    checkpoint: str = "all"
    """Released AdaCLIP weights by name (mvtec_colondb, visa_clinicdb, all), or path or URI
    (s3://, hf://owner/name/file) of a .pth or .safetensors file; "none" = random weights."""
    image_size: int = 518
    """Side in pixels to which images are resized; a multiple of the backbone's patch size."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is meant for GPUs; on the tests' small model it moves scores by up to 0.01."""

    batch_size: int | None = None
    """Images a forward pass. Default: 16 on a GPU, 4 on a CPU. Changes results by rounding only."""
    num_actors: int | None = None
    """Copies of the model. Default: one for every GPU of the cluster, or 1."""
    gpus_per_actor: float | None = None
    """GPUs for each copy; 0.5 puts two on one GPU, 0 runs on CPUs. Default: 1 if the cluster has
    GPUs, else 0. Give it, with --num-actors, where GPU nodes start on demand."""
    maps: bool = True
    """Write anomaly maps (2.5 KB an image at 518 px)."""

    max_megapixels: float = 100.0
    """Larger images become an error row instead of being decoded."""
    max_error_rate: float = 0.05
    """Exit with code 1 if a larger share of the images ends in an error."""
    allow_empty: bool = False
    """Finding no object at all is no error."""
    commit_interval_s: float = 300.0
    """Seconds between writes of finished rows. What a killed run had not written, the next scores
    again."""
    scan_date: str = field(default_factory=_today)
    """Partition to write to, YYYY-MM-DD. Default: today (UTC)."""
    address: str | None = None
    """Ray cluster to use. Default: the one this job was submitted to ($RAY_ADDRESS), else the one
    that runs on this machine, else a new one; "local" = always a new one."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        if not self.input or not all(self.input):
            raise ValueError("--input needs at least one folder or list, and no empty name")
        if not self.output:
            raise ValueError("--output is empty; give a folder")
        if self.category is not None and not self.category.strip():
            raise ValueError("--category is empty; give a class name such as 'metal nut'")
        if self.category_regex is not None:
            _check_category_regex(self.category_regex)
        _check_at_least("--image-size", self.image_size, 1)
        _check_at_least("--batch-size", self.batch_size, 1)
        _check_at_least("--num-actors", self.num_actors, 1)
        _check_at_least("--gpus-per-actor", self.gpus_per_actor, 0)
        if (self.gpus_per_actor or 0) > 1:
            raise ValueError("--gpus-per-actor is at most 1; a copy of the model uses one GPU")
        if not 0 <= self.max_error_rate <= 1:
            raise ValueError("--max-error-rate is a share between 0 and 1, such as 0.05")
        for flag, value in (
            ("--max-megapixels", self.max_megapixels),
            ("--commit-interval-s", self.commit_interval_s),
        ):
            if not 0 < value < math.inf:
                raise ValueError(f"{flag} is {value:g}; it must be a positive number")
        _check_date("--scan-date", self.scan_date)

    @property
    def model_arguments(self) -> dict[str, str | int | None]:
        """The arguments of ``load_adaclip`` but for the device."""
        return {
            "backbone": self.backbone,
            "backbone_weights": None if self.backbone_weights == NONE else self.backbone_weights,
            "checkpoint": None if self.checkpoint == NONE else self.checkpoint,
            "image_size": self.image_size,
            "precision": self.precision,
        }


def _check_at_least(flag: str, value: float | None, least: int) -> None:
    if value is not None and not least <= value < math.inf:
        raise ValueError(f"{flag} is {value:g}; it must be at least {least}")


def _check_date(flag: str, value: str) -> None:
    try:
        exact = date.fromisoformat(value).isoformat() == value  # Python reads 20250131 as well
    except ValueError:
        exact = False
    if not exact:
        raise ValueError(f"{flag} {value!r} is not YYYY-MM-DD")


def _check_category_regex(expression: str) -> None:
    try:
        groups = re.compile(expression).groupindex
    except re.error as error:
        raise ValueError(f"--category-regex is not a regular expression: {error}") from None
    if "category" not in groups:
        raise ValueError("--category-regex needs a group (?P<category>...)")
