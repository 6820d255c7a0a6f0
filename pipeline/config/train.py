"""The training job's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from .checks import check_at_least, refuse_credentials
from .job import JobConfig
from .model import NONE, ModelConfig, ModelSpec


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ModelConfig, JobConfig):
    """Train AdaCLIP's own weights on labelled auxiliary images; the backbone stays frozen.

    Says before the first step what is odd about the data, such as empty masks. Writes adaclip.pth,
    adaclip.safetensors, model_card.md, metrics.csv and TensorBoard logs. The same command continues
    a run that was stopped, from its last checkpoint to the same weights. Exit codes: 0 done, 1
    failed, 2 the command can't be carried out as given (nothing was trained), 130 interrupted.
    """

    GROUP: ClassVar = "training"
    COMMON: ClassVar = "init epochs lr batch_size held_out precision num_workers address"
    EXAMPLE: ClassVar = (
        "adaclip train --data mvtec=s3://datasets/mvtec --data colondb=s3://datasets/colondb \\\n"
        "    --output s3://models/mine --precision bf16"
    )

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
    dice: Literal["defects", "image", "rows"] = "defects"
    """What the maps' dice loss compares with the mask: the whole image, where there is a defect;
    the whole of any image; or each row of pixels by itself, as the released code does by accident
    (docs/training.md#what-was-tried)."""
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
    patience: int | None = None
    """Stop after so many epochs in a row without a lower held-out loss. Default: never."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the towers under autocast, with fp32 weights and losses; meant for GPUs."""
    recompute_activations: bool = False
    """Keep less for the backward pass and compute it again: the same weights in less memory, for
    larger batches or images, at 1.1 to 1.4 times the time (docs/performance.md)."""
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

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        refuse_credentials(self)
        if not self.data or not all(self.data):
            raise ValueError("--data needs at least one labelled data set, and no empty name")
        if not self.output:
            raise ValueError("--output is empty; give a folder")
        self._settle_image_size()
        for flag, whole in (
            ("--epochs", self.epochs),
            ("--batch-size", self.batch_size),
            ("--num-workers", self.num_workers),
            ("--checkpoint-every-steps", self.checkpoint_every_steps),
            ("--patience", self.patience),
        ):
            check_at_least(flag, whole, 1)
        for flag, number in (
            ("--weight-decay", self.weight_decay),
            ("--seed", self.seed),
            ("--max-failures", self.max_failures),
        ):
            check_at_least(flag, number, 0)
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
        if self.patience is not None and not self.held_out:
            raise ValueError("--patience counts epochs by their held-out loss; it needs --held-out")

    @property
    def model_spec(self) -> ModelSpec:
        """The model to train; weights are trained in fp32."""
        return self._spec(self.init, "fp32", self.seed)
