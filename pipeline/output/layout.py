"""What lies where below an output, spelled here only.

<output>/scores/scan_date=YYYY-MM-DD/*.parquet    one row an image
<output>/maps/scan_date=YYYY-MM-DD/*.parquet      one row a map
<output>/runs/<run_id>/                           what a run says of itself
<output>/shard-index/<digest>.parquet             what a shard of the inputs holds
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from pipeline.storage import absolute

SCORES, MAPS, RUNS, SHARD_INDEX = "scores", "maps", "runs", "shard-index"

# In the folder of a run.
CONFIG = "config.json"
MANIFEST = "manifest"
REPORT = "report.json"
REVIEW = "review.json"
TOLD = "told.json"
PAGE = "report.html"

PARTITION = r"scan_date=(\d{4}-\d{2}-\d{2})"
"""Regular expression of the folder of a scan date."""


def scores_of(output: str) -> str:
    """The folder of the score table, as an absolute URI."""
    return f"{absolute(output)}/{SCORES}"


def runs_of(output: str) -> str:
    """The folder of the runs' folders, as an absolute URI."""
    return f"{absolute(output)}/{RUNS}"


def run_folder(output: str, run_id: str) -> str:
    """The folder of a run, as an absolute URI."""
    return f"{runs_of(output)}/{run_id}"


def shard_index_of(output: str, digest: str) -> str:
    """The file that tells what a shard of the inputs holds, as an absolute URI.

    Args:
        output: the output's folder.
        digest: of the shard and its version, 32 hexadecimal digits.
    """
    return f"{absolute(output)}/{SHARD_INDEX}/{digest}.parquet"


def partition_of(scan_date: str) -> str:
    """The folder of a scan date, YYYY-MM-DD, below those of the scores and the maps."""
    return f"scan_date={scan_date}"


def scan_date_of(uri: str) -> str | None:
    """The scan date of a score file or map shard; None if it lies in no folder of one."""
    found = re.search(rf"/{PARTITION}/[^/]+$", uri)
    return found and found[1]


def by_scan_date(files: Iterable[str]) -> dict[str, list[str]]:
    """Score files by scan date, the oldest first; those without one are left out."""
    found: dict[str, list[str]] = defaultdict(list)
    for uri in files:
        if date := scan_date_of(uri):
            found[date].append(uri)
    return dict(sorted(found.items()))
