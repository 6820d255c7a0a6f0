"""The settings of the job that builds references."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from .checks import check_at_least
from .images import ImagesConfig
from .score import ScoreConfig


@dataclass(frozen=True, kw_only=True)
class BuildReferencesConfig(ImagesConfig):
    """Make references that images are compared with: of known-good images, or of a bucket.

    The result is for jobs/score_bucket.py --references. Categories, globs, formats and the model
    are told as to that job. The same command goes on after a crash: finished categories are kept.
    Exit codes: 0 done, 1 failed, too many errors, or a category has no references (the others are
    written); 2 the command can't be carried out as given, 130 interrupted.
    """

    GROUP: ClassVar = "references"
    COMMON: ClassVar = "model unlabelled add category include precision address"
    EXAMPLE: ClassVar = (
        "adaclip references --input s3://bucket/known-good --output s3://models/references"
    )

    output: str
    """Folder that receives references.json and sets/, one file for each category."""
    unlabelled: bool = False
    """The images are not known to be good: find out what is normal, and leave the rest out. Holds
    up to 40 % of damaged ones."""
    add: bool = False
    """Add the images to the references that the output holds, instead of making them anew."""
    max_images_per_category: int = 500
    """Look at no more images of a category, chosen by a hash of URI and version."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        super().__post_init__()
        if not self.output:
            raise ValueError("--output is empty; give a folder")
        check_at_least("--max-images-per-category", self.max_images_per_category, 1)
        self.score_config()

    def score_config(self) -> ScoreConfig:
        """The scoring job's settings for the same images."""
        shared = {each.name: getattr(self, each.name) for each in fields(ImagesConfig)}
        return ScoreConfig(output=self.output, references=self.output, **shared)
