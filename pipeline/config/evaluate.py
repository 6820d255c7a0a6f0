"""The evaluation job's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from .checks import check_at_least, refuse_credentials
from .job import JobConfig
from .model import NONE, NamedModelConfig
from .references import BuildReferencesConfig
from .score import AUTO, ScoreConfig
from .scorer import ScorerConfig

AS_IS = "as-is"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(NamedModelConfig, ScorerConfig, JobConfig):
    """Measure AdaCLIP on labelled images, per category and on average.

    Image AUROC, AP and max-F1; pixel AUROC, AP, max-F1 and AUPRO (FPR up to 0.3), by the released
    code's conventions. Images that the output holds scores of already are not scored again. Exit
    codes: 0 done, 1 failed or more unusable images than --max-error-rate, 2 the command can't be
    carried out as given (nothing was measured), 130 interrupted.
    """

    GROUP: ClassVar = "measurement"
    COMMON: ClassVar = "data paper scores split model few_shot unlabelled precision address"
    EXAMPLE: ClassVar = (
        "adaclip evaluate --data visa=s3://datasets/visa --output s3://bucket/evaluation"
    )

    output: str
    """Folder that receives metrics.csv, metrics.parquet, metrics.md, errors.csv and plots/, the
    scores/, maps/ and runs/ of the scoring, and with --few-shot or --unlabelled the same three
    forms of protocols.* and protocols/."""
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
    fingerprint: str | None = None
    """With --scores: fingerprint of the model, or part of it, where there are several."""

    checkpoint: str | None = None
    """AdaCLIP weights, as of the scoring job. Default, as in the paper: visa_clinicdb for the data
    sets MVTec and ColonDB, mvtec_colondb for all others, so that none was trained on."""
    references: str | None = None
    """Judge images beside their siblings: a folder that jobs/build_references.py made. With
    --few-shot or --unlabelled, a line of their table besides."""
    few_shot: tuple[int, ...] = ()
    """Measure also beside so many good images of each category's training split, such as 1, 2, 4,
    8 and 16. Repeat for more."""
    unlabelled: tuple[Literal["as-is"] | float, ...] = ()
    """Measure also beside a bucket that nobody has looked at: "as-is", all images that are
    measured; a number, all good ones of them and so many abnormal ones that they are so many
    percent of the bucket, such as 0, 5, 20 and 40. Repeat for more."""
    seeds: int = 3
    """Choices of images for each --few-shot and each number of --unlabelled; the table shows mean
    and standard deviation over them."""
    plots: bool = True
    """Draw ROC and precision-recall curves, score histograms and bars of the metrics: plots/*.png
    and *.svg beside metrics.md, which shows them."""
    sigma: float = 4.0
    """Standard deviation in pixels of the Gaussian filter on maps, for pixel metrics."""
    map_filter: Literal["probabilities", "logits"] = "probabilities"
    """What that filter smooths, and pixel metrics rank: "probabilities", as the paper, or "logits",
    the maps before the sigmoid, where no pixels are equal because they round to 0 or 1
    (docs/evaluation.md)."""

    max_error_rate: float = 0.0
    """Exit with code 1 if a larger share of the images could not be used. The tables are written
    all the same, without those images."""
    commit_interval_s: float = 300.0
    """Seconds between writes of finished scores. What a killed run had not written, the next
    scores again."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        refuse_credentials(self)
        if not self.data and not self.paper:
            raise ValueError("give --data with a labelled data set, or --paper with their folder")
        if not all(self.data):
            raise ValueError("--data has an empty name")
        if self.allow_missing and not self.paper:
            raise ValueError("--allow-missing goes with --paper; what --data names must be there")
        if self.fingerprint is not None and self.scores is None:
            raise ValueError("--fingerprint selects rows of --scores; to score now, give --model")
        if self.scores is not None and (self.model or self.checkpoint) is not None:
            raise ValueError("--scores are measured as they are; leave --model, --checkpoint out")
        self._refuse_protocols()
        check_at_least("--image-size", self.image_size, 0)
        if self.scores is None:
            self._settle_model()
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"--sigma is {self.sigma:g}; it must be at least 0, 4 as in the paper")
        if not 0 <= self.max_error_rate <= 1:
            raise ValueError("--max-error-rate is a share between 0 and 1, such as 0.05")
        if self.scores is None:
            self.score_config(("labels.parquet",), NONE)

    def remarks(self) -> list[str]:
        """What may not be meant; the size of existing scores is theirs."""
        return [] if self.scores is not None else super().remarks()

    def measured_size(self, longest: float) -> int:
        """Side in pixels to which maps and masks are resized.

        That of the model's input; of tiled images that of as many tiles as the largest image takes.

        Args:
            longest: side of all images, in pixels.
        """
        taken = math.ceil(longest / (self.tile_size or self.image_size))
        return self.image_size * max(1, min(self.tiles, taken))

    @property
    def has_protocols(self) -> bool:
        """Whether images are also measured beside others."""
        return bool(self.few_shot or self.unlabelled)

    def _refuse_protocols(self) -> None:
        if self.scores is not None and (self.references or self.has_protocols):
            raise ValueError(
                "--scores are measured as they are; leave --references, --few-shot and "
                "--unlabelled out"
            )
        if self.references == AUTO:
            raise ValueError(
                "--references auto is of the scoring job, for a bucket; to measure it, give "
                f"--unlabelled {AS_IS}"
            )
        if self.has_protocols and self.frozen_image_size is not None:
            raise ValueError(
                "--few-shot and --unlabelled compare what --frozen-image-size leaves out; leave it "
                "out"
            )
        for count in self.few_shot:
            check_at_least("--few-shot", count, 1)
        for amount in self.unlabelled:
            if amount != AS_IS and not (amount == 0 or 1 <= float(amount) < 100):
                raise ValueError(
                    f"--unlabelled {amount} is neither {AS_IS} nor a percentage of abnormal "
                    "images: 0, or from 1 to below 100, such as 20"
                )
        check_at_least("--seeds", self.seeds, 1)

    def score_config(self, lists: tuple[str, ...], checkpoint: str) -> ScoreConfig:
        """The scoring job's settings for lists of labelled images.

        The share of errors is not limited: it is judged over all data sets, after scoring.
        """
        own = {each.name for each in fields(self)}
        shared = {
            each.name: getattr(self, each.name) for each in fields(ScoreConfig) if each.name in own
        }
        given = {"input": lists, "checkpoint": checkpoint, "model": None, "max_error_rate": 1.0}
        return ScoreConfig(**(shared | given))

    def references_config(
        self, images: str, checkpoint: str, output: str, *, unlabelled: bool, most: int
    ) -> BuildReferencesConfig:
        """The settings of the job that builds references, for a list of images.

        Args:
            images: the list, with a category for each.
            checkpoint: AdaCLIP weights.
            output: folder of the references.
            unlabelled: the images are not known to be good.
            most: images of a category to look at.
        """
        own = {each.name for each in fields(self)}
        kept = {each.name for each in fields(BuildReferencesConfig)} & own - {"unlabelled"}
        return BuildReferencesConfig(
            **{name: getattr(self, name) for name in kept}
            | {"input": (images,), "checkpoint": checkpoint, "model": None, "output": output}
            | {"max_error_rate": 1.0, "max_images_per_category": most},
            unlabelled=unlabelled,
        )
