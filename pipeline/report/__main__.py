"""The page of any nights or of one run: ``python -m pipeline.report --help``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import date
from typing import Annotated

import pyarrow as pa
import tyro

from pipeline import logs
from pipeline.config.score import MAX_GALLERY
from pipeline.redaction import holds_credential, redact
from pipeline.storage import StorageError, absolute

from .page import make_page, write_page
from .selection import Query
from .summary import clean

DONE, FAILED, CANNOT_RUN = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class PageConfig:
    """Make one HTML page of what a scoring job's output holds.

    By default of its newest night. The page needs no network and no other file: open it from disk
    or from S3, or send it. Needs neither Ray nor a model. The output is only read.

    Exit codes: 0 written; 1 the output can't be read or the page can't be written; 2 the command
    can't be carried out as given, such as a night that is not there.

    Examples:
      python -m pipeline.report s3://bucket/scores
      python -m pipeline.report s3://bucket/scores --nights 7 --html week.html
      python -m pipeline.report scores --from 2026-11-01 --to 2026-11-30 --html s3://pages/nov.html
      python -m pipeline.report scores --run 20261123T020000Z-3fa9c1
    """

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
    model: str | None = None
    """Fingerprint of the model whose rows to show. Default: the newest run's; scores of two models
    don't compare. Nor do those of two reference sets: each category has those of its newest run, or
    the ones behind the fingerprint (+refs-...)."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        for flag, value in (("--from", self.from_), ("--to", self.to)):
            if value is not None and not _is_date(value):
                raise ValueError(f"{flag} {value!r} is not YYYY-MM-DD")
        if self.from_ and self.to and self.from_ > self.to:
            raise ValueError(f"--from {self.from_} is after --to {self.to}")
        if self.from_ and self.nights is not None:
            raise ValueError("--nights counts back from --to; give it or --from, not both")
        if self.run is not None and (self.from_ or self.to or self.nights or self.model):
            raise ValueError("--run is one run of one model; leave --from, --to, --nights, --model")
        if self.nights is not None and self.nights < 1:
            raise ValueError(f"--nights is {self.nights}; it must be at least 1")
        if not 0 <= self.gallery <= MAX_GALLERY:
            raise ValueError(f"--gallery is {self.gallery}; it must be from 0 to {MAX_GALLERY:,}")
        if self.past < 0:
            raise ValueError(f"--past is {self.past}; it must be at least 0")
        if holds_credential(self.output) or holds_credential(self.html):
            raise ValueError(
                "a URI holds a password or a signature; leave it out and use the usual AWS "
                "variables and files"
            )

    @property
    def query(self) -> Query:
        """Which rows are meant."""
        return Query(
            run_id=self.run,
            first=self.from_,
            last=self.to,
            nights=self.nights,
            model=self.model,
            past=self.past,
        )


def main(arguments: list[str] | None = None) -> int:
    """Parse, make, write; returns the exit code."""
    logs.escape_unencodable()
    try:
        config = tyro.cli(PageConfig, prog="python -m pipeline.report", args=arguments)
        page = make_page(config.output, config.query, gallery=config.gallery)
    except (StorageError, OSError, pa.ArrowException) as error:
        return _fail(error, FAILED)
    except ValueError as error:  # Arrow's errors are of this kind, too
        return _fail(error, CANNOT_RUN)
    try:
        write_page(config.html, page)
    except StorageError as error:
        return _fail(f"the page can't be written: {error}", FAILED)
    print(f"{absolute(config.html)} ({len(page) / 1e6:.1f} MB)")
    return DONE


def _is_date(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value  # Python reads 20250131 as well
    except ValueError:
        return False


def _fail(error: object, code: int) -> int:
    print(f"error: {clean(redact(str(error)), 2_000)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
