"""The jobs' settings. Every field is a command-line flag; its docstring is the flag's help."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from typing import Any, Literal

DEFAULT_CATEGORY_COLUMN = "category"
NONE = "none"  # what the command line calls "random weights"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, for every job. The defaults are the released one."""

    backbone: str = "ViT-L-14-336"
    """open_clip model name, or path of an open_clip JSON configuration."""
    backbone_weights: str = "openai"
    """open_clip tag, or path or URI of a state dict; "none" = random weights, for tests."""
    image_size: int = 518
    """Side in pixels to which images are resized; a multiple of the backbone's patch size."""
    prompt_length: int = 5
    """M, prompt tokens a block; what the checkpoint was trained with."""
    prompt_depth: int = 4
    """J, prompted blocks counted from the input; what the checkpoint was trained with."""
    num_clusters: int = 20
    """K of the hybrid semantic fusion."""
    use_fusion: bool = True
    """Hybrid semantic fusion on, or the image score from the class embedding alone."""
    prompt_kind: Literal["both", "static", "dynamic", "none"] = "both"
    """Static prompts, dynamic prompts, their sum, or none."""
    prompted_towers: Literal["both", "visual", "text"] = "both"
    """Towers that receive prompts."""

    def _model_arguments(self, checkpoint: str, precision: str) -> dict[str, Any]:
        arguments = {each.name: getattr(self, each.name) for each in fields(ModelConfig)}
        weights = {"backbone_weights": self.backbone_weights, "checkpoint": checkpoint}
        arguments |= {name: None if value == NONE else value for name, value in weights.items()}
        return {**arguments, "precision": precision}


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(ModelConfig):
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

    checkpoint: str = "all"
    """Released AdaCLIP weights by name (mvtec_colondb, visa_clinicdb, all), or path or URI
    (s3://, hf://owner/name/file) of a .pth or .safetensors file; "none" = random weights."""
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
    def model_arguments(self) -> dict[str, Any]:
        """The arguments of ``load_adaclip`` but for the device."""
        return self._model_arguments(self.checkpoint, self.precision)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ModelConfig):
    """Measure AdaCLIP on labelled images, per category and on average.

    Image AUROC, AP and max-F1; pixel AUROC, AP, max-F1 and AUPRO (FPR up to 0.3), by the released
    code's conventions. Images that the output holds scores of already are not scored again. Exit
    codes: 0 done, 1 failed or more unusable images than --max-error-rate, 2 the command can't be
    carried out as given (nothing was measured), 130 interrupted.
    """

    output: str
    """Folder that receives metrics.csv, metrics.parquet, metrics.md and errors.csv, and the
    scores/, maps/ and runs/ of the scoring."""
    data: tuple[str, ...] = ()
    """Labelled data set: a folder, or a .parquet or .csv list. NAME=URI names it in the tables;
    the last folder is the name otherwise. Repeat for more. One of the paper's 14, recognised by
    its name, is shown beside the paper's figures."""
    layout: str = "auto"
    """How the data sets lie in their folders; "auto" recognises it."""
    split: Literal["test", "train", "all"] = "test"
    """Which labelled images count."""
    paper: str | None = None
    """Reproduce the paper's tables 1 and 2: a folder that holds its data sets, as mvtec, visa,
    mpdd, btad, ksdd, dagm, dtd-synthetic, headct, brainmri, br35h, isic, colondb, clinicdb,
    tn3k."""
    allow_missing: bool = False
    """With --paper, leave out data sets that are not there, and say so."""

    scores: str | None = None
    """Output of the scoring job to measure instead of scoring now."""
    model: str | None = None
    """With --scores: fingerprint of the model, or part of it, where there are several."""

    checkpoint: str | None = None
    """AdaCLIP weights, as of the scoring job. Default, as in the paper: visa_clinicdb for the data
    sets MVTec and ColonDB, mvtec_colondb for all others, so that none was trained on."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is meant for GPUs; on the tests' small model it moves scores by up to 0.01."""
    sigma: float = 4.0
    """Standard deviation in pixels of the Gaussian filter on maps, for pixel metrics."""

    batch_size: int | None = None
    """Images a forward pass. Default: 16 on a GPU, 4 on a CPU. Changes results by rounding only."""
    num_actors: int | None = None
    """Copies of the model. Default: one for every GPU of the cluster, or 1."""
    gpus_per_actor: float | None = None
    """GPUs for each copy; 0 runs on CPUs. Default: 1 if the cluster has GPUs, else 0."""
    max_megapixels: float = 100.0
    """Larger images become an error instead of being decoded."""
    max_error_rate: float = 0.0
    """Exit with code 1 if a larger share of the images could not be used. The tables are written
    all the same, without those images."""
    commit_interval_s: float = 300.0
    """Seconds between writes of finished scores. What a killed run had not written, the next
    scores again."""
    address: str | None = None
    """Ray cluster to use. Default: the one this job was submitted to ($RAY_ADDRESS), else the one
    that runs on this machine, else a new one; "local" = always a new one."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        if not self.data and not self.paper:
            raise ValueError("give --data with a labelled data set, or --paper with their folder")
        if not all(self.data):
            raise ValueError("--data has an empty name")
        if self.allow_missing and not self.paper:
            raise ValueError("--allow-missing goes with --paper; what --data names must be there")
        if self.model is not None and self.scores is None:
            raise ValueError("--model selects rows of --scores; to score now, give --checkpoint")
        if self.scores is not None and self.checkpoint is not None:
            raise ValueError("--scores are measured as they are; leave --checkpoint out")
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"--sigma is {self.sigma:g}; it must be at least 0, 4 as in the paper")
        if not 0 <= self.max_error_rate <= 1:
            raise ValueError("--max-error-rate is a share between 0 and 1, such as 0.05")
        self.score_config(("labels.parquet",), NONE)

    def score_config(self, lists: tuple[str, ...], checkpoint: str) -> ScoreConfig:
        """The scoring job's settings for lists of labelled images.

        The share of errors is not limited: it is judged over all data sets, after scoring.
        """
        own = {each.name for each in fields(self)}
        shared = {
            each.name: getattr(self, each.name) for each in fields(ScoreConfig) if each.name in own
        }
        given = {"input": lists, "checkpoint": checkpoint, "max_error_rate": 1.0}
        return ScoreConfig(**(shared | given))


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ModelConfig):
    """Train AdaCLIP's own weights on labelled auxiliary images; the backbone stays frozen.

    Writes adaclip.pth, adaclip.safetensors, model_card.md, metrics.csv and TensorBoard logs. The
    same command continues a run that was stopped, from its last checkpoint to the same weights.
    Exit codes: 0 done, 1 failed, 2 the command can't be carried out as given (nothing was
    trained), 130 interrupted.
    """

    data: tuple[str, ...]
    """Labelled data set: a folder, or a .parquet or .csv list. NAME=URI names it in the model card;
    the last folder is the name otherwise. Repeat for more. The paper trains on mvtec and colondb to
    test everything else, and on visa and clinicdb to test those two."""
    output: str
    """Folder that receives the weights, the logs and the checkpoint to continue from."""
    layout: str = "auto"
    """How the data sets lie in their folders; "auto" recognises it."""
    split: Literal["test", "train", "all"] = "test"
    """Which labelled images to train on; the test splits are the ones with defects."""

    init: str = NONE
    """Weights to start from: a released checkpoint's name, or path or URI of a .pth or .safetensors
    file; "none" = random prompts and projections, as in the paper."""
    epochs: int = 5
    """Passes over the training images."""
    lr: float = 0.01
    """Learning rate of AdamW, constant."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    max_grad_norm: float | None = None
    """Shorten longer gradients to this norm. Default: never, as in the paper."""
    batch_size: int = 1
    """Images a step of each worker."""
    mosaic_rate: tuple[str, ...] = ()
    """NAME=RATE: share of a data set's samples that are 2x2 mosaics of one class; a RATE alone is
    for all. Repeat for more. Default: 0.2 for a data set named mvtec, 0 for others, as in the
    paper."""
    held_out: float = 0.1
    """Share of the images, of each class and label, that is left out of training and measured after
    every epoch. 0 trains on everything, as the paper does, and keeps the last epoch."""
    select: Literal["best", "last"] = "best"
    """Which epoch's weights to keep: lowest loss on the held-out images, or the last."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the towers under autocast, with fp32 weights and losses; meant for GPUs."""
    seed: int = 0
    """Of random weights, order, mosaics and the held-out part."""

    num_workers: int | None = None
    """Training processes. Default: one for every GPU of the cluster, or 1. Workers times batch
    size is what one step sees, and what may not change when a run is continued."""
    gpus_per_worker: float | None = None
    """1 trains on GPUs, 0 on CPUs. Default: 1 if the cluster has GPUs, else 0."""
    cpus_per_worker: float | None = None
    """CPUs for each worker, and its number of threads. Default: what reading leaves, or 1 beside a
    GPU."""
    checkpoint_every_steps: int | None = None
    """Steps between checkpoints to continue from, beside the one after every epoch."""
    max_failures: int = 3
    """How often workers that died are replaced before the run is given up."""
    max_megapixels: float = 100.0
    """Larger images end the run instead of being decoded."""
    address: str | None = None
    """Ray cluster to use. Default: the one this job was submitted to ($RAY_ADDRESS), else the one
    that runs on this machine, else a new one; "local" = always a new one."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        if not self.data or not all(self.data):
            raise ValueError("--data needs at least one labelled data set, and no empty name")
        if not self.output:
            raise ValueError("--output is empty; give a folder")
        for flag, whole in (
            ("--image-size", self.image_size),
            ("--epochs", self.epochs),
            ("--batch-size", self.batch_size),
            ("--num-workers", self.num_workers),
            ("--checkpoint-every-steps", self.checkpoint_every_steps),
        ):
            _check_at_least(flag, whole, 1)
        for flag, number in (
            ("--weight-decay", self.weight_decay),
            ("--seed", self.seed),
            ("--max-failures", self.max_failures),
        ):
            _check_at_least(flag, number, 0)
        for flag, positive in (
            ("--lr", self.lr),
            ("--max-grad-norm", self.max_grad_norm),
            ("--cpus-per-worker", self.cpus_per_worker),
            ("--max-megapixels", self.max_megapixels),
        ):
            if positive is not None and not 0 < positive < math.inf:
                raise ValueError(f"{flag} is {positive:g}; it must be a positive number")
        if self.gpus_per_worker not in (None, 0, 1):
            raise ValueError("--gpus-per-worker is 0 or 1; a worker trains on one GPU")
        if not 0 <= self.held_out <= 0.5:
            raise ValueError("--held-out is a share between 0 and 0.5, such as 0.1")

    @property
    def model_arguments(self) -> dict[str, Any]:
        """The arguments of ``load_adaclip`` but for the device; weights are trained in fp32."""
        return {**self._model_arguments(self.init, "fp32"), "seed": self.seed}


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
