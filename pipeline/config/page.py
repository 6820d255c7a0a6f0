"""The settings of the page of any nights or of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from .checks import check_date, check_given, refuse_credentials
from .job import CommandConfig
from .score import MAX_GALLERY


@dataclass(frozen=True, kw_only=True)
class PageConfig(CommandConfig):
    """Make one HTML page of what a scoring job's output holds.

    By default of its newest night. The page needs no network and no other file: open it from disk
    or from S3, or send it. Needs neither Ray nor a model. The output is only read.

    Exit codes: 0 written; 1 the output can't be read or the page can't be written; 2 the command
    can't be carried out as given, such as a night that is not there.
    """

    GROUP: ClassVar = "the page"
    COMMON: ClassVar = "html nights from_ to run gallery"
    EXAMPLE: ClassVar = (
        "adaclip report s3://bucket/scores --nights 7 --html week.html\n"
        "adaclip report scores --from 2026-11-01 --to 2026-11-30 --html s3://pages/nov.html"
    )

    output: tyro.conf.Positional[str]
    """The scoring job's --output: a folder or any URI, such as s3://bucket/scores."""
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """First night to show, YYYY-MM-DD (the scan date)."""
    to: str | None = None
    """Last night to show. Default: the newest."""
    nights: int | None = None
    """So many nights, up to --to. Default: 1, or all since --from."""
    run: str | None = None
    """Only this run, as its own report.html shows it: a name below <output>/runs/."""
    html: str = "report.html"
    """File or URI to write."""
    gallery: int = 200
    """How many of the most anomalous images to show; categories take turns. 0: none, and no image
    is read."""
    past: int = 30
    """How many nights before to draw behind the distributions."""
    fingerprint: str | None = None
    """Fingerprint of the model whose rows to show. Default: the newest run's; scores of two models
    don't compare. Nor do those of two reference sets: each category has those of its newest run, or
    the ones behind the fingerprint (+refs-...)."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        refuse_credentials(self)
        check_given("the output", self.output)
        check_given("--html", self.html)
        for flag, value in (("--from", self.from_), ("--to", self.to)):
            if value is not None:
                check_date(flag, value)
        if self.from_ and self.to and self.from_ > self.to:
            raise ValueError(f"--from {self.from_} is after --to {self.to}")
        if self.from_ and self.nights is not None:
            raise ValueError("--nights counts back from --to; give it or --from, not both")
        if self.run is not None and (self.from_ or self.to or self.nights or self.fingerprint):
            raise ValueError(
                "--run is one run of one model; leave --from, --to, --nights, --fingerprint"
            )
        if self.nights is not None and self.nights < 1:
            raise ValueError(f"--nights is {self.nights}; it must be at least 1")
        if not 0 <= self.gallery <= MAX_GALLERY:
            raise ValueError(f"--gallery is {self.gallery}; it must be from 0 to {MAX_GALLERY:,}")
        if self.past < 0:
            raise ValueError(f"--past is {self.past}; it must be at least 0")
