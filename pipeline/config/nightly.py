"""The settings of a night over many sources."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

from .checks import check_date, check_given, refuse_credentials
from .job import JobConfig


@dataclass(frozen=True, kw_only=True)
class NightlyConfig(JobConfig):
    """Score what is new in several places, one after the other, and tell what was found.

    A source that fails doesn't stop the others. Exit codes: 0 all sources done; 1 one of them
    failed, had too many errors or could not be reviewed, or a webhook or the summary failed (the
    summary tells which); 2 the command or its scans.yaml can't be used (nothing was scored);
    130 interrupted.
    """

    GROUP: ClassVar = "this night"
    COMMON: ClassVar = "dry_run source since limit price_per_hour log_format address"
    EXAMPLE: ClassVar = "adaclip nightly --config scans.yaml --dry-run"

    config: str
    """scans.yaml, a path or URI; docs/nightly.md and infra/scans.example.yaml explain it."""
    source: tuple[str, ...] = ()
    """Only the source of this name. Repeat for more. Default: all."""
    dry_run: bool = False
    """List what would be scored, estimate time and cost from past runs, and write nothing."""
    price_per_hour: float | None = None
    """Of the whole cluster, in any currency, for the estimate of --dry-run."""
    since: str | None = None
    """Only objects modified since: a date or time (2026-11-23, 2026-11-23T18:00Z), or so long ago
    (36h, 2d, 1w). Default: what scans.yaml says."""
    limit: int | None = None
    """At most so many images of each source; the next run goes on. Default: what scans.yaml
    says."""
    rescore: bool = False
    """Score what is listed again, also what the outputs hold under the same model. The new rows are
    the ones that open_results shows; the old stay in the table."""
    refresh_references: bool = False
    """Make the references of sources with "references: auto" anew, from what is listed now; their
    images are scored again."""
    scan_date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    """Partition to write to, YYYY-MM-DD. Default: today (UTC)."""
    lock_wait_s: float = 0.0
    """Seconds to wait for another run that writes to a source's output, before giving it up."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work; what goes to the sources is checked with them.

        Raises:
            ValueError: names the flag and the remedy.
        """
        refuse_credentials(self)
        check_given("--config", self.config)
        check_date("--scan-date", self.scan_date)
        price = self.price_per_hour
        if price is not None and not 0 <= price < math.inf:
            raise ValueError(f"--price-per-hour is {price:g}; it must be at least 0")
        if price is not None and not self.dry_run:
            raise ValueError("--price-per-hour goes with --dry-run, which estimates")
