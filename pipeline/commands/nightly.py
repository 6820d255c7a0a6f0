"""``adaclip nightly``: score what is new in several places, and tell what was found."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

from pipeline import command
from pipeline.config import NightlyConfig
from pipeline.distributed.nightly import preview, run_night
from pipeline.errors import CannotRunError
from pipeline.nightly.scans import Scans, load_scans
from pipeline.storage import StorageError

GOES_ON = "finished rows are written, the same command goes on from here"

_log = logging.getLogger(__name__)


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
    return command.run(lambda: _prepare(arguments), _work, goes_on=GOES_ON)


def parse(arguments: list[str] | None = None) -> NightlyConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return command.parse(NightlyConfig, "nightly", arguments)


def scans_of(config: NightlyConfig) -> Scans:
    """The scans that the command line selects, with its flags in place.

    Raises:
        ScansError: scans.yaml can't be used, or has no such source.
        ValueError: a flag can't work.
    """
    settings: dict[str, Any] = {
        name: value for name in ("since", "limit") if (value := getattr(config, name)) is not None
    }
    for name in ("rescore", "scan_date", "lock_wait_s", "address"):
        settings[name] = getattr(config, name)
    scans = load_scans(config.config).select(config.source).override(**settings)
    return scans.refreshed() if config.refresh_references else scans


def _prepare(arguments: list[str] | None) -> _Job:
    config = parse(arguments)
    return _Job(config, scans_of(config))


def _work(job: _Job) -> int:
    if job.config.dry_run:
        return _preview(job)
    night = run_night(job.scans, job.config.scan_date)
    print(night.table())
    if night.failed or night.problems:
        told = [f"not done: {', '.join(night.failed)}"] if night.failed else []
        return command.fail("; ".join([*told, *night.problems]), command.FAILED)
    return command.DONE


def _preview(job: _Job) -> int:
    code = command.DONE
    for source in job.scans.sources:
        try:
            print(preview(source).lines(job.config.price_per_hour), flush=True)
        except (CannotRunError, StorageError) as error:
            code = command.fail(f"{source.name}: {error}", command.FAILED)
        except Exception as error:  # whatever it is, the other sources are looked at
            _log.exception("%s can't be looked at", source.name)
            code = command.fail(f"{source.name}: {type(error).__name__}: {error}", command.FAILED)
    return code
