"""Which runs people were told of: what others found belongs to the next review."""

from __future__ import annotations

import pyarrow.compute as pc

from pipeline.output.layout import TOLD, scores_of
from pipeline.output.rows import read_rows
from pipeline.output.run_files import read_run_file, write_run_file

from .review import Review

ENDED = ("done", "too_many_errors")  # runs with every row that they had to do


def untold_runs(output: str, run_id: str, files: list[str], same_model: pc.Expression) -> list[str]:
    """Runs right before this one that wrote rows and ended before anybody was told of them."""
    seen: set[str] = set()
    for rows in read_rows(scores_of(output), files, ["run_id"], same_model):
        seen.update(rows.column("run_id").unique().to_pylist())
    untold = []
    for earlier in sorted((run for run in seen if run < run_id), reverse=True):  # by start time
        if _was_told(output, earlier):
            break
        untold.append(earlier)
    return untold


def _was_told(output: str, run_id: str) -> bool:
    """A run of its own shows its report; a nightly one is told of in the summary of its night."""
    if read_run_file(output, run_id, TOLD):
        return True
    report = read_run_file(output, run_id)
    return report.get("status") in ENDED and not report.get("source")


def mark_told(output: str, review: Review, summary: str) -> None:
    """Note with the runs of a review that people were told of them.

    Args:
        output: the scoring job's output.
        review: of ``review_run``.
        summary: URI of the night's summary, which tells.

    Raises:
        StorageError: it can't be written; the next night tells of these runs again.
    """
    for run_id in (review.run_id, *review.untold_runs):
        write_run_file(output, run_id, TOLD, {"summary": summary})
