"""Score what is new in several places, every night: ``python jobs/nightly_scan.py --help``.

Run it directly (starts a local Ray), or on a cluster:
``ray job submit --working-dir . -- python jobs/nightly_scan.py --config s3://bucket/scans.yaml``
"""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.config.checks import check_date, check_given, refuse_credentials
from pipeline.distributed import entry
from pipeline.distributed.errors import CannotRunError
from pipeline.distributed.nightly import preview, run_night
from pipeline.nightly.scans import Scans, load_scans
from pipeline.storage import StorageError

GOES_ON = "finished rows are written, the same command goes on from here"

_log = logging.getLogger("jobs")


@dataclass(frozen=True, kw_only=True)
class NightlyConfig:
    """Score what is new in several places, one after the other, and tell what was found.

    A source that fails doesn't stop the others. Exit codes: 0 all sources done; 1 one of them
    failed, had too many errors or could not be reviewed, or a webhook or the summary failed (the
    summary tells which); 2 the command or its scans.yaml can't be used (nothing was scored);
    130 interrupted.
    """

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
    address: str | None = None
    """Ray cluster to use. Default: the one this job was submitted to ($RAY_ADDRESS), else the one
    that runs on this machine, else a new one; "local" = always a new one."""
    log_format: Literal["text", "json"] = "text"
    """json: progress and errors as lines of JSON on standard error; tables stay as they are."""

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


@dataclass(frozen=True)
class _Job:
    config: NightlyConfig
    scans: Scans

    @property
    def address(self) -> str | None:
        return self.config.address

    @property
    def log_format(self) -> Literal["text", "json"]:
        return self.config.log_format

    def remarks(self) -> list[str]:
        return [
            f"{source.name}: {remark}"
            for source in self.scans.sources
            for remark in source.config.remarks()
        ]


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    return entry.run(lambda: _prepare(arguments), _work, goes_on=GOES_ON)


def parse(arguments: list[str] | None = None) -> NightlyConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return entry.parse(NightlyConfig, "nightly_scan.py", arguments)


def scans_of(config: NightlyConfig) -> Scans:
    """The scans that the command line selects, with its flags in place.

    Raises:
        ScansError: scans.yaml can't be used, or has no such source.
        ValueError: a flag can't work.
    """
    settings: dict[str, Any] = {
        name: value for name in ("since", "limit") if (value := getattr(config, name)) is not None
    }
    for name in ("rescore", "scan_date", "lock_wait_s"):
        settings[name] = getattr(config, name)
    scans = load_scans(config.config).select(config.source).override(**settings)
    return scans.refreshed() if config.refresh_references else scans


def _prepare(arguments: list[str] | None) -> _Job:
    config = parse(arguments)
    return _Job(config, scans_of(config))


def _work(job: _Job, console: entry.Console) -> int:
    if job.config.dry_run:
        return _preview(job, console)
    night = run_night(job.scans, job.config.scan_date, say=console.say)
    print(night.table())
    if night.failed or night.problems:
        told = [f"not done: {', '.join(night.failed)}"] if night.failed else []
        return console.fail("; ".join([*told, *night.problems]), entry.FAILED)
    return entry.DONE


def _preview(job: _Job, console: entry.Console) -> int:
    code = entry.DONE
    for source in job.scans.sources:
        try:
            print(preview(source).lines(job.config.price_per_hour), flush=True)
        except (CannotRunError, StorageError) as error:
            code = console.fail(f"{source.name}: {error}", entry.FAILED)
        except Exception as error:  # whatever it is, the other sources are looked at
            _log.exception("%s can't be looked at", source.name)
            code = console.fail(f"{source.name}: {type(error).__name__}: {error}", entry.FAILED)
    return code


if __name__ == "__main__":
    sys.exit(main())
