"""Keep an output in shape: ``python jobs/maintain.py compact --help``, ``... vacuum --help``.

Needs no Ray: it reads and writes the output from where it runs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import pyarrow as pa
import tyro

from pipeline import command
from pipeline.config.checks import check_date, check_given, refuse_credentials
from pipeline.output.compaction import compact, plan
from pipeline.output.lock import OutputLock
from pipeline.output.vacuum import GRACE, KEEP, find_garbage, vacuum
from pipeline.storage import absolute
from pipeline.terminal import clean

GOES_ON = "the same command goes on from here"


@dataclass(frozen=True, kw_only=True)
class Compact:
    """Make few large files of the many small ones that nightly runs leave.

    Rewrites the score files and map shards of partitions that no run writes to any more. Readers
    of pipeline.results and the scoring job see every row once meanwhile. The old map shards stay
    until a vacuum.
    """

    output: str
    """Folder that holds scores/, maps/ and runs/."""
    before: str = ""
    """Only partitions of an earlier scan date, YYYY-MM-DD. Default: today (UTC)."""
    dry_run: bool = False
    """Say what would be rewritten, and change nothing."""
    lock: bool = True
    """Keep other jobs from writing meanwhile. Off is for stores that refuse conditional writes; see
    to it then that no job writes to the output."""

    log_format: Literal["text", "json"] = "text"
    """json: progress and errors as lines of JSON on standard error; tables stay as they are."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        refuse_credentials(self)
        check_given("--output", self.output)
        if self.before:
            check_date("--before", self.before)

    def remarks(self) -> list[str]:
        """None."""
        return []


@dataclass(frozen=True, kw_only=True)
class Vacuum:
    """List, and with --delete remove, what no row needs any more.

    Map shards that no score row points to, folders of runs that died or left no row, and
    half-written files.
    """

    output: str
    """Folder that holds scores/, maps/ and runs/."""
    delete: bool = False
    """Delete what is listed. Without it, nothing is changed."""
    grace_hours: float = GRACE / timedelta(hours=1)
    """Younger files stay: somebody may hold rows that point to the shards of before a
    compaction."""
    keep_days: float = KEEP / timedelta(days=1)
    """Folders of older runs go, unless a score row names the run."""
    lock: bool = True
    """Keep other jobs from writing meanwhile. Off is for stores that refuse conditional writes; see
    to it then that no job writes to the output."""

    log_format: Literal["text", "json"] = "text"
    """json: progress and errors as lines of JSON on standard error; tables stay as they are."""

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            ValueError: names the flag and the remedy.
        """
        refuse_credentials(self)
        check_given("--output", self.output)
        for flag, value in (("--grace-hours", self.grace_hours), ("--keep-days", self.keep_days)):
            if not 0 <= value < 1e6:
                raise ValueError(f"{flag} is {value:g}; it must be at least 0")

    def remarks(self) -> list[str]:
        """None."""
        return []


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    failures = (OSError, ValueError, pa.ArrowException)
    return command.run(lambda: parse(arguments), work, goes_on=GOES_ON, failures=failures)


def parse(arguments: list[str] | None = None) -> Compact | Vacuum:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return tyro.cli(Compact | Vacuum, prog="maintain.py", description=__doc__, args=arguments)


def work(config: Compact | Vacuum, console: command.Console) -> int:
    """Compact, or find and remove what no row needs; returns the exit code."""
    if isinstance(config, Compact):
        return _compact(config, console)
    return _vacuum(config, console)


def _compact(config: Compact, console: command.Console) -> int:
    output = absolute(config.output)
    before = config.before or datetime.now(UTC).date().isoformat()
    if config.dry_run:
        groups = plan(output, before=before)
        for group in groups:
            print(f"{group.partition}: {len(group.files)} files, {_size(group.size)}, become 1")
        print(f"{sum(len(g.files) for g in groups):,} files would become {len(groups):,}")
        return command.DONE
    with OutputLock(output, run_id="compact", say=console.say, needed=config.lock) as lock:
        done = compact(output, before=before, check=lock.check, say=console.say)
    print(f"{done.files_before:,} files with {done.rows:,} rows became {done.files_after:,}")
    for failure in done.failures:
        console.fail(failure, command.FAILED)
    return command.FAILED if done.failures else command.DONE


def _vacuum(config: Vacuum, console: command.Console) -> int:
    output = absolute(config.output)
    grace, keep = timedelta(hours=config.grace_hours), timedelta(days=config.keep_days)
    if config.delete:
        with OutputLock(output, run_id="vacuum", say=console.say, needed=config.lock) as lock:
            garbage = vacuum(output, grace=grace, keep=keep, check=lock.check)
    else:
        garbage = find_garbage(output, grace=grace, keep=keep)
    for each in garbage:
        print(f"{_size(each.size):>10}  {clean(each.uri, 400)}  ({each.reason})")
    total = f"{len(garbage):,} things, {_size(sum(each.size for each in garbage))}"
    print(f"deleted: {total}" if config.delete else f"{total}; --delete removes them")
    return command.DONE


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} B"


if __name__ == "__main__":
    sys.exit(main())
