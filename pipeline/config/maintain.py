"""The settings of what keeps an output in shape."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from .checks import check_at_least, check_date, check_given, refuse_credentials
from .job import CommandConfig
from .tables import table_place

# So long a reader may hold rows that point to the shards of before a compaction.
GRACE = timedelta(hours=24)
KEEP = timedelta(days=90)


@dataclass(frozen=True, kw_only=True)
class MaintainConfig(CommandConfig):
    """Which output."""

    GROUP: ClassVar = "this run"

    output: str
    """Folder that holds scores/, maps/ and runs/."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        refuse_credentials(self)
        check_given("--output", self.output)


@dataclass(frozen=True, kw_only=True)
class LockingConfig(MaintainConfig):
    """What changes the output."""

    lock: bool = True
    """Keep other jobs from writing meanwhile. Off is for stores that refuse conditional writes; see
    to it then that no job writes to the output."""


@dataclass(frozen=True, kw_only=True)
class Compact(LockingConfig):
    """Make few large files of the many small ones that nightly runs leave.

    Rewrites the score files and map shards of partitions that no run writes to any more. Readers
    of pipeline.results and the scoring job see every row once meanwhile. The old map shards stay
    until a vacuum.
    """

    EXAMPLE: ClassVar = "adaclip maintain compact --output s3://bucket/scores --dry-run"

    before: str = ""
    """Only partitions of an earlier scan date, YYYY-MM-DD. Default: today (UTC)."""
    dry_run: bool = False
    """Say what would be rewritten, and change nothing."""

    def __post_init__(self) -> None:
        """As of every output; the date is one as partitions have it."""
        super().__post_init__()
        if self.before:
            check_date("--before", self.before)


@dataclass(frozen=True, kw_only=True)
class Vacuum(LockingConfig):
    """List, and with --delete remove, what no row needs any more.

    Map shards that no score row points to, folders of runs that died or left no row, and
    half-written files.
    """

    EXAMPLE: ClassVar = "adaclip maintain vacuum --output s3://bucket/scores"

    delete: bool = False
    """Delete what is listed. Without it, nothing is changed."""
    grace_hours: float = GRACE / timedelta(hours=1)
    """Younger files stay: somebody may hold rows that point to the shards of before a
    compaction."""
    keep_days: float = KEEP / timedelta(days=1)
    """Folders of older runs go, unless a score row names the run, and older indexes of shards."""

    def __post_init__(self) -> None:
        """As of every output; times are not negative."""
        super().__post_init__()
        check_at_least("--grace-hours", self.grace_hours, 0)
        check_at_least("--keep-days", self.keep_days, 0)


@dataclass(frozen=True, kw_only=True)
class Publish(MaintainConfig):
    """Bring an Apache Iceberg or Delta Lake table up to date, for engines that know no outputs.

    The table holds of each image, under each model and category, the row that counts. Only score
    files that were not published yet are read, and the table changes at once or not at all. It is
    made if it is not there. Other jobs may write to the output meanwhile.
    """

    EXAMPLE: ClassVar = (
        "adaclip maintain publish --output s3://bucket/scores --to delta://s3://bucket/table"
    )

    to: tuple[str, ...]
    """The table: iceberg://CATALOG/NAMESPACE/TABLE, or delta:// before the URI of a folder. Repeat
    for more."""

    def __post_init__(self) -> None:
        """As of every output; there is a table, and its URI is one."""
        super().__post_init__()
        if not self.to:
            raise ValueError("--to is missing; give a table to publish to")
        for uri in self.to:
            try:
                table_place(uri)
            except ValueError as error:
                raise ValueError(f"--to {error}") from None
