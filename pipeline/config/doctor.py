"""The settings of a look at whether a run can succeed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from .checks import check_at_least
from .images import ImagesConfig
from .score import ScoreConfig


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(ImagesConfig):
    """Look whether everything is in place for a run, and how long one would take.

    Python and packages, an input and an output, an image of yours, the weights, Ray and its GPUs,
    and the seconds that the model needs per image. Each line is a yes, or says what to do. Nothing
    is left behind. Exit codes: 0 all is well, 1 something is missing, 2 the command can't be
    carried out as given, 130 interrupted.
    """

    GROUP: ClassVar = "this look"
    COMMON: ClassVar = "input output model category images precision address"
    EXAMPLE: ClassVar = "adaclip doctor --input photos --output scores --model small"

    input: tuple[str, ...] = ()
    """As of the scoring job. Default: none is looked at."""
    output: str | None = None
    """As of the scoring job; a small object is written there and deleted. Default: none."""
    images: float = 200_000
    """Number of images to work the time out for."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        super().__post_init__()
        check_at_least("--images", self.images, 1)

    def _check_input(self) -> None:
        """None is fine."""

    def score_config(self) -> ScoreConfig:
        """The scoring job's settings, for the same images."""
        shared = {each.name: getattr(self, each.name) for each in fields(ImagesConfig)}
        given = {"input": self.input or ("none",), "output": self.output or "none"}
        return ScoreConfig(**(shared | given))
