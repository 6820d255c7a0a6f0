"""``adaclip maintain compact``, ``vacuum`` and ``publish``: what an output needs but a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from pipeline import command
from pipeline.config import Compact, Publish, Vacuum, table_place
from pipeline.errors import CannotRunError
from pipeline.output.compaction import compact, plan
from pipeline.output.lock import OutputLock
from pipeline.output.snapshot import is_output
from pipeline.output.vacuum import find_garbage, vacuum
from pipeline.publishing import publish, require_packages
from pipeline.storage import absolute
from pipeline.terminal import clean

GOES_ON = "the same command goes on from here"

Command = Compact | Vacuum | Publish


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    failures = (OSError, ValueError, pa.ArrowException)
    return command.run(lambda: parse(arguments), work, goes_on=GOES_ON, failures=failures)


def parse(arguments: list[str] | None = None) -> Command:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    configs: dict[str, type[Command]] = {"compact": Compact, "vacuum": Vacuum, "publish": Publish}
    return command.parse_one_of(configs, "maintain", arguments)


def work(config: Command) -> int:
    """Compact, find and remove what no row needs, or publish; returns the exit code.

    Raises:
        CannotRunError: no run ever wrote to the output; nothing is written then, not even a lock.
    """
    output = absolute(config.output)
    if not is_output(output):
        raise CannotRunError(
            f"{output} holds neither scores/ nor runs/: no run has written there yet, or --output "
            "is mistyped. There is nothing to maintain, and nothing was written"
        )
    if isinstance(config, Compact):
        return _compact(output, config)
    if isinstance(config, Publish):
        return _publish(output, config)
    return _vacuum(output, config)


def _compact(output: str, config: Compact) -> int:
    before = config.before or datetime.now(UTC).date().isoformat()
    if config.dry_run:
        groups = plan(output, before=before)
        for group in groups:
            print(f"{group.partition}: {len(group.files)} files, {_size(group.size)}, become 1")
        print(f"{sum(len(g.files) for g in groups):,} files would become {len(groups):,}")
        return command.DONE
    with OutputLock(output, run_id="compact", needed=config.lock) as lock:
        done = compact(output, before=before, check=lock.check)
    print(f"{done.files_before:,} files with {done.rows:,} rows became {done.files_after:,}")
    for failure in done.failures:
        command.fail(failure, command.FAILED)
    return command.FAILED if done.failures else command.DONE


def _vacuum(output: str, config: Vacuum) -> int:
    grace, keep = timedelta(hours=config.grace_hours), timedelta(days=config.keep_days)
    if config.delete:
        with OutputLock(output, run_id="vacuum", needed=config.lock) as lock:
            garbage = vacuum(output, grace=grace, keep=keep, check=lock.check)
    else:
        garbage = find_garbage(output, grace=grace, keep=keep)
    for each in garbage:
        print(f"{_size(each.size):>10}  {clean(each.uri, 400)}  ({each.reason})")
    total = f"{len(garbage):,} things, {_size(sum(each.size for each in garbage))}"
    print(f"deleted: {total}" if config.delete else f"{total}; --delete removes them")
    return command.DONE


def _publish(output: str, config: Publish) -> int:
    places = [table_place(uri) for uri in config.to]
    for place in places:
        require_packages(place)
    for place in places:
        print(publish(output, place).line())
    return command.DONE


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} B"
