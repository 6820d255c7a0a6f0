"""The calibration job's settings."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import ClassVar, Literal, Self

from .checks import check_date, check_given, refuse_credentials
from .images import ImagesConfig
from .score import ScoreConfig

_OF_SCORING = {*(each.name for each in fields(ImagesConfig)), "output", "references", "lock"}
_WITH_SCORES = {"input", "category", "address", "log_format"}  # mean something to --scores as well


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig(ImagesConfig):
    """Choose a threshold for each category from known-good images; no defect is needed.

    A threshold is the smallest value of a good image above which, with the wanted confidence, at
    most the wanted share of good images lies. Exit codes: 0 done; 1 failed, or a category has too
    few images for the wanted share (thresholds.json is written all the same, and says what they
    allow to promise); 2 the command can't be carried out as given; 130 interrupted.
    """

    GROUP: ClassVar = "thresholds"
    COMMON: ClassVar = (
        "input scores prefix false_alarm_rate confidence labels model references fingerprint"
    )
    EXAMPLE: ClassVar = (
        "adaclip calibrate --scores s3://bucket/scores --prefix s3://bucket/known-good/ \\\n"
        "    --false-alarm-rate 0.05 --output s3://models/mine"
    )

    output: str
    """Folder that receives thresholds.json, such as the model's own; with --input also the scores/,
    maps/ and runs/ of the scoring."""
    input: tuple[str, ...] = ()
    """Known-good images to score first, as of the scoring job. All images that the output holds
    under this model count: give it only good ones."""
    references: str | None = None
    """With --input: as of the scoring job."""
    lock: bool = True
    """With --input: as of the scoring job."""
    scores: str | None = None
    """Output of the scoring job to calibrate on, instead of --input."""

    false_alarm_rate: float = 0.01
    """Largest wanted share of good images above the threshold. Whether the sample is large enough
    is told: 0.01 takes 299 good images of a category, 0.001 takes 2,995 (at 0.95 confidence)."""
    confidence: float = 0.95
    """That the share is kept, for each category and measure."""
    measure: tuple[Literal["score", "map_max", "anomalous_area"], ...] = ()
    """Which values get a threshold; repeat for more. Default: all three. Regions (to_masks) take
    map_max."""
    labels: str | None = None
    """List of labelled images (.csv or .parquet: uri, label; 0 good, 1 abnormal) or data set, as of
    the evaluation job. Then only these images count: the good ones for the share, all for max-F1,
    which is written as well."""
    allow_too_few: bool = False
    """Too few images in a category are no failure."""

    category: str | None = None
    """With --input: class name of all images, as of the scoring job. With --scores: only images of
    this class."""
    prefix: str | None = None
    """With --scores: only images whose URI begins with it, as of --input; photos/good is a local
    path."""
    from_date: str | None = None
    """With --scores: only rows of this scan_date and later ones, YYYY-MM-DD."""
    to_date: str | None = None
    """With --scores: only rows up to this scan_date."""
    fingerprint: str | None = None
    """With --scores: fingerprint of the model, or part of it, where there are several."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        if bool(self.input) == (self.scores is not None):
            raise ValueError("give either --input with known-good images, or --scores of them")
        for flag, value in (
            ("--false-alarm-rate", self.false_alarm_rate),
            ("--confidence", self.confidence),
        ):
            if not 0 < value < 1:
                raise ValueError(f"{flag} is {value:g}; it must be between 0 and 1")
        check_given("--output", self.output)
        if self.scores is None:
            for name in ("prefix", "from_date", "to_date", "fingerprint"):
                if getattr(self, name) is not None:
                    raise ValueError(f"--{name.replace('_', '-')} selects rows of --scores")
            super().__post_init__()
            self.score_config()
            return
        refuse_credentials(self)
        for each in fields(self):
            is_set = each.default is not MISSING and getattr(self, each.name) != each.default
            if is_set and each.name in _OF_SCORING - _WITH_SCORES:
                raise ValueError(f"--{each.name.replace('_', '-')} goes with --input")
        for name in ("from_date", "to_date"):
            if (value := getattr(self, name)) is not None:
                check_date(f"--{name.replace('_', '-')}", value)
        if self.from_date and self.to_date and self.from_date > self.to_date:
            raise ValueError(f"--from-date {self.from_date} is after --to-date {self.to_date}")

    def on_this_machine(self) -> Self:
        """As of the scoring job; with --scores no image is read."""
        return self if self.scores is not None else super().on_this_machine()

    def score_config(self) -> ScoreConfig:
        """The scoring job's settings for ``input``."""
        return ScoreConfig(**{name: getattr(self, name) for name in _OF_SCORING})
