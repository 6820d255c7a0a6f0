"""The settings of the demonstration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .checks import check_given
from .job import JobConfig


@dataclass(frozen=True, kw_only=True)
class DemoConfig(JobConfig):
    """Draw photographs of two kinds of parts, some damaged, and score them with the small model.

    Needs no network, account or GPU, and takes about a minute. Exit codes: 0 done, 1 failed, 2
    the command can't be carried out as given, 130 interrupted.
    """

    GROUP: ClassVar = "this demonstration"
    EXAMPLE: ClassVar = "adaclip demo"

    folder: str = "adaclip-demo"
    """Folder of this machine that receives photos/, scores/ and most_anomalous.png."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        check_given("--folder", self.folder)
        if "://" in self.folder:
            raise ValueError(f"--folder {self.folder}: give a folder of this machine")
