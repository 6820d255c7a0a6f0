"""``adaclip report``: the page of any nights or of one run."""

from __future__ import annotations

import logging

import pyarrow as pa

from pipeline import command
from pipeline.config.page import PageConfig
from pipeline.errors import CannotRunError
from pipeline.report.page import make_page, write_page
from pipeline.report.scope import Query
from pipeline.storage import StorageError, absolute

_log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Parse, make, write; returns the exit code."""
    failures = (OSError, pa.ArrowException)
    return command.run(lambda: parse(arguments), work, goes_on="", failures=failures)


def parse(arguments: list[str] | None = None) -> PageConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return command.parse(PageConfig, "report", arguments)


def work(config: PageConfig) -> int:
    """Make a page and write it; returns the exit code."""
    try:
        page = make_page(config.output, query_of(config), gallery=config.gallery)
    except pa.ArrowException:
        raise
    except ValueError as error:  # Arrow's errors are of this kind, too
        raise CannotRunError(str(error)) from error
    try:
        write_page(config.html, page)
    except StorageError as error:
        raise StorageError(error.code, f"the page can't be written: {error}") from error
    _log.info(f"{absolute(config.html)} ({len(page) / 1e6:.1f} MB)")
    return command.DONE


def query_of(config: PageConfig) -> Query:
    """Which rows are meant."""
    return Query(
        run_id=config.run,
        first=config.from_,
        last=config.to,
        nights=config.nights,
        model=config.fingerprint,
        past=config.past,
    )
