"""What the page shows, but for the pictures: read from the score table and the run folders.

Two passes over the selected nights, one over the nights before. The first reads ids, categories,
scores and errors, in batches; the second reads whole rows, of the files that hold an image of the
gallery or an example of an error. Memory does not grow with the number of rows.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from pipeline.allocator import give_back
from pipeline.nightly.review import Alert, Review
from pipeline.output.layout import REVIEW, scores_of
from pipeline.output.run_files import read_run_file
from pipeline.output.snapshot import read_scores
from pipeline.provenance import versions
from pipeline.schema import FINAL_ERRORS, ErrorCode
from pipeline.storage import absolute

from .collector import Collector
from .distribution import BINS, take_turns
from .scope import MAX_RUNS, Query, Scope, find_scope

KEPT = ("run_id", "status", "message", "counts", "seconds", "images_per_s")  # of report.json


def gather(output: str, query: Query | None = None, *, gallery: int = 200) -> dict[str, Any]:
    """Everything on the page but the pictures. Reads no maps and no images.

    Args:
        output: the scoring job's output.
        query: which rows.
        gallery: how many images to name, those with the highest scores of each category by turns.

    Returns:
        A dictionary ready for JSON, with times as ISO 8601 text. Rows of "gallery" have the columns
        ``collector.SHOWN``, their night, and whether they are over a threshold. Texts are as in
        the table: untrusted, and not yet redacted.

    Raises:
        ValueError: there is no such night or run.
        StorageError: the output can't be listed.
        OSError, pa.ArrowException: a score file can't be read; the message names it.
    """
    query, output = query or Query(), absolute(output)
    report = read_run_file(output, query.run_id) if query.run_id is not None else {}
    if query.run_id is not None and not report:
        raise ValueError(f"{output} has no report of a run {query.run_id!r}")

    def read(files: list[str]) -> tuple[Scope, Collector, list[dict[str, Any]]]:
        scope = find_scope(output, files, query, report)
        found = Collector(output, scope, _newest_review(output, scope), gallery)
        found.read()
        give_back()
        chosen = take_turns((each.highest for each in found.all_categories()), gallery)
        examples = [example for each in found.tally.examples.values() for example in each]
        return scope, found, found.whole_rows(chosen + examples)

    scope, found, rows = read_scores(scores_of(output), read)
    nights = [found.nights[date] for date in sorted(found.nights)]
    scored = [row for row in rows if row["error"] is None]
    failed = [row for row in rows if row["error"] is not None]
    return {
        "output": output,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": versions()["adaclip-pipeline"],
        "run_id": query.run_id,
        "bins": BINS,
        "model": scope.identity.base,
        "other_models": scope.other_models,
        "dates": [each["date"] for each in nights if each["selected"]],
        "past_dates": [each["date"] for each in nights if not each["selected"]],
        "runs": _runs(output, scope, report),
        "counts": {
            "scored": found.together.now.num_images,
            "errors": found.together.errors,
            "over": found.together.over,
        },
        "nights": nights,
        "categories": [each.as_dict(name, found.review) for name, each in found.categories.items()],
        "together": found.together.as_dict(None, found.review),
        "others": found.others.as_dict(None, found.review) if found.others.selected else None,
        "errors": _errors(found.tally.errors, failed),
        "gallery": [found.gallery_row(row) for row in scored],
        "alert": _alert(found.review.alert),
    }


def _newest_review(output: str, scope: Scope) -> Review:
    """What the nightly job said of the newest run that was reviewed: thresholds and drift."""
    for run_id in reversed(scope.run_ids[-MAX_RUNS:]):
        if found := read_run_file(output, run_id, REVIEW):
            return Review.from_json(found).of_references(scope.identity.references)
    return Review()


def _runs(output: str, scope: Scope, report: dict[str, Any]) -> list[dict[str, Any]]:
    """What report.json says of the runs, newest first."""
    runs = []
    for run_id in reversed(scope.run_ids[-MAX_RUNS:]):
        found = report if report.get("run_id") == run_id else read_run_file(output, run_id)
        kept = {name: found[name] for name in KEPT if name in found}
        runs.append({"run_id": run_id, "untold": run_id in scope.untold} | kept)
    return runs


def _errors(counts: Counter[str], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Errors by kind, the most frequent first, each with examples."""
    final = {code.value for code in (*FINAL_ERRORS, ErrorCode.TOO_LARGE)}
    return [
        {
            "code": code,
            "count": count,
            "final": code in final,
            "examples": [
                {"uri": row["uri"], "message": row["error_message"] or ""}
                for row in rows
                if row["error"] == code
            ],
        }
        for code, count in counts.most_common()
    ]


def _alert(alert: Alert) -> dict[str, Any] | None:
    if alert.rule is None:
        return None
    return {
        "fired": alert.fired,
        "reasons": list(alert.reasons),
        "uncalibrated": dict(alert.uncalibrated),
        "outdated": list(alert.outdated),
    }
