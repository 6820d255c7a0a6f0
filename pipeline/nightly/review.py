"""The morning after: what a night's run found, compared with the nights before."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.calibration import MEASURES, Calibration, read_calibration
from pipeline.identity import ModelIdentity
from pipeline.output.run_files import read_run_file, write_run_file
from pipeline.output.snapshot import read_scores
from pipeline.schema import FINAL_ERRORS, ErrorCode
from pipeline.storage import absolute
from pipeline.terminal import clean

from .alerts import AlertRule, Threshold
from .drift import Drift, compare
from .samples import SAMPLED, Sample, by_category, measured, nights_of, read_rows, sample_categories

DEFAULT_NIGHTS = 30  # of the drift test, where no rule gives a number
TOLD = "told.json"  # beside the report.json of a run that a summary tells of
REVIEWED = ("uri", "category", "score", "score_logit", "anomalous_area")  # and a box
SHOWN = (*REVIEWED, "box_x0", "box_y0", "box_x1", "box_y1")
ENDED = ("done", "too_many_errors")  # runs with every row that they had to do
_FINAL = [code.value for code in (*FINAL_ERRORS, ErrorCode.TOO_LARGE)]


def review(
    output: str,
    *,
    run_id: str,
    identity: ModelIdentity,
    scan_date: str,
    rule: AlertRule | None = None,
    top: int = 10,
) -> dict[str, Any]:
    """What a run found, ready for JSON. Reads the score table, no maps and no images.

    Rows of runs that were stopped before anybody was told of them belong to this review: nothing
    that was found is lost because a driver died. All other rows of the same model, of the last
    nights and of earlier runs of this date, are the past that thresholds and drift compare with.
    ``mark_told`` ends that for a nightly run. Rows with other references are of another model: a
    category whose references changed has no past, as a new category has none.

    Memory is bounded: at most ``nights.SAMPLE_SIZE`` images of each category are held, on either
    side.

    Args:
        output: the scoring job's output.
        run_id: the run.
        identity: of its rows.
        scan_date: the partition that it wrote to, YYYY-MM-DD.
        rule: the alert rule; None = no alert, and drift against the last 30 nights.
        top: how many images to name, of the most anomalous and of those over a threshold.

    Raises:
        StorageError: the output can't be listed, or the rule's thresholds can't be read.
        CalibrationError: the rule's thresholds are another model's; the message names both. Those
            of other references are left out, and named in the alert.
        OSError, pa.ArrowException: a score file can't be read; the message names it.
    """
    output = absolute(output)
    calibration, outdated = None, list[str]()
    if rule and rule.thresholds:
        calibration = read_calibration(rule.thresholds)
        calibration.check_model(identity.base)
        outdated = calibration.outdated(identity)
        calibration = calibration.without(outdated)
    nights = rule.nights if rule else DEFAULT_NIGHTS
    same_model = identity.condition()

    def read(files: list[str]) -> tuple[list[str], list[str], _Night, list[Drift]]:
        by_date = nights_of(files, scan_date, nights)
        files = [uri for uris in by_date.values() for uri in uris]
        recent = [uri for date in sorted(by_date)[-2:] for uri in by_date[date]]
        untold = untold_runs(output, run_id, recent, same_model)
        tonight = pc.field("run_id").cast(pa.string()).isin([run_id, *untold])
        had_score = same_model & ~tonight & pc.field("score").is_valid()
        past = sample_categories(read_rows(output, files, SAMPLED, had_score))
        night = _Night(run_id, rule, past, top, calibration)
        columns = dict.fromkeys([*SAMPLED, *SHOWN, *MEASURES, "error", "run_id"])
        rows = read_rows(output, recent, columns, same_model & tonight)
        drift = compare(sample_categories(map(night.add, rows)), past)
        return [date for date in by_date if date < scan_date], untold, night, drift

    past_nights, untold, night, drift = read_scores(f"{output}/scores", read)
    return {
        "run_id": run_id,
        "model": identity.base,
        "references": dict(identity.references),
        "scan_date": scan_date,
        "untold_runs": untold,
        "past_nights": past_nights,
        "counts": {
            "new": night.scored + night.errors.total(),
            "scored": night.scored,
            "errors": night.errors.total(),
        },
        "errors": dict(night.errors.most_common()),
        "most_anomalous": night.most_anomalous.rows(),
        "drifted": [each.category for each in drift if each.drifted],
        "drift": [asdict(each) for each in drift],
        "alert": night.alert() | {"outdated": outdated},
    }


def mark_told(output: str, review: dict[str, Any], summary: str) -> None:
    """Note with the runs of a review that people were told of them.

    Args:
        output: the scoring job's output.
        review: what ``review`` returned.
        summary: URI of the night's summary, which tells.

    Raises:
        StorageError: it can't be written; the next night tells of these runs again.
    """
    for run_id in (review["run_id"], *review["untold_runs"]):
        write_run_file(output, run_id, TOLD, {"summary": summary})


def table(review: dict[str, Any], limit: int = 10) -> str:
    """A review for a terminal; names that others chose are escaped."""
    counts, alert = review["counts"], review["alert"]
    lines = [f"  {counts['new']:,} new images: {counts['scored']:,} scored"]
    lines[0] += "".join(f", {n:,} {clean(code)}" for code, n in review["errors"].items())
    lines.append("  alert: " + ("FIRED" if alert["fired"] else "not fired"))
    lines += [f"    {clean(reason, 200)}" for reason in alert["reasons"][:limit]]
    if alert["outdated"]:
        names = clean(", ".join(alert["outdated"]), 200)
        lines.append(f"    thresholds of other references, to calibrate again: {names}")
    drifted = [each for each in review["drift"] if each["drifted"]]
    lines.append(f"  drift: {len(drifted)} of {len(review['drift'])} categories compared")
    lines += [
        f"    {clean(each['category'], 40)}: median {each['past_median']:.3f} -> "
        f"{each['median']:.3f}, statistic {each['statistic']:.2f}, p {each['p_value']:.1g}"
        for each in drifted[:limit]
    ]
    if review["most_anomalous"]:
        lines.append("  most anomalous")
    lines += [
        f"    {row['score']:.3f}  {clean(row['category'], 24):<24} {clean(row['uri'])}"
        for row in review["most_anomalous"][:limit]
    ]
    return "\n".join(lines)


@dataclass
class _Top:
    """The rows with the highest scores so far."""

    size: int
    kept: pa.Table | None = None

    def add(self, rows: pa.RecordBatch) -> None:
        found = pa.Table.from_batches([rows]).select([*SHOWN, "image_id"])
        if self.kept is not None:
            found = pa.concat_tables([self.kept, found]).unify_dictionaries()
        # The id makes the choice among equal scores the same every time.
        keys = [(name, "descending") for name in ("score", "score_logit")]
        order = pc.sort_indices(found, [*keys, ("image_id", "ascending")])
        self.kept = found.take(order[: self.size])

    def rows(self) -> list[dict[str, Any]]:
        rows = self.kept.to_pylist() if self.kept is not None else []
        return [
            {name: row[name] for name in REVIEWED}
            | {"box": [row[f"box_{corner}"] for corner in ("x0", "y0", "x1", "y1")]}
            for row in rows
        ]


def _order(row: dict[str, Any]) -> tuple[float, float, str]:
    """The highest score first; of equal ones the highest logit, none last."""
    logit = row["score_logit"]
    return -row["score"], math.inf if logit is None else -logit, row["uri"]


class _Night:
    """Counts, thresholds and the worst images, collected while the night's rows pass."""

    def __init__(
        self,
        run_id: str,
        rule: AlertRule | None,
        past: Mapping[str, Sample],
        top: int,
        calibration: Calibration | None,
    ) -> None:
        self.scored = 0
        self.errors: Counter[str] = Counter()
        self.most_anomalous = _Top(top)
        self._run_id, self._rule, self._past, self._top = run_id, rule, past, top
        self._calibration = calibration
        self._thresholds: dict[str, list[Threshold]] = {}
        self._num_images: Counter[str] = Counter()
        self._num_over: Counter[tuple[str, Threshold]] = Counter()
        self._over: dict[str, _Top] = {}

    def add(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Take a batch of the night; returns its rows with a score."""
        self._count_errors(rows)
        scored = rows.filter(rows.column("score").is_valid())
        if not scored.num_rows:
            return scored
        self.scored += scored.num_rows
        self.most_anomalous.add(scored)
        for category, positions in by_category(scored):
            self._num_images[category] += len(positions)
            over: set[int] = set()
            for threshold in self._of(category):
                above = positions[measured(scored, threshold.measure)[positions] > threshold.value]
                self._num_over[category, threshold] += len(above)
                over.update(above.tolist())
            if over:
                worst = self._over.setdefault(category, _Top(self._top))
                worst.add(scored.take(pa.array(sorted(over))))
        return scored

    def alert(self) -> dict[str, Any]:
        """Whether the rule fired, why, and the worst of the images that it means."""
        least = self._rule.min_count if self._rule else 1
        fired = {key: count for key, count in self._num_over.items() if count >= least}
        categories = {category for category, _ in fired}
        images = [row for category in categories for row in self._over[category].rows()]
        known = self._calibration.limits if self._calibration else {}
        few = {
            c: self._past[c].num_images if c in self._past else 0
            for c in self._thresholds
            if c not in known
        }
        return {
            "fired": bool(fired),
            "reasons": [self._reason(*key, count) for key, count in sorted(fired.items(), key=str)],
            "images": sorted(images, key=_order)[: self._top],
            "rule": self._rule.as_dict() if self._rule else None,
            "thresholds": {c: [asdict(t) for t in each] for c, each in self._thresholds.items()},
            # Categories without a calibrated threshold that are too new for a quantile, with their
            # number of past images.
            "uncalibrated": {
                c: count for c, count in few.items() if self._rule and count < self._rule.min_images
            },
        }

    def _of(self, category: str) -> list[Threshold]:
        if self._rule is None:
            return []
        if category not in self._thresholds:
            past = self._past.get(category, Sample())
            self._thresholds[category] = self._rule.limits(category, past, self._calibration)
        return self._thresholds[category]

    def _count_errors(self, rows: pa.RecordBatch) -> None:
        """Errors by code. One that may pass was tried again by the run after the stopped one."""
        failed = rows.filter(rows.column("error").is_valid())
        own = pc.equal(failed.column("run_id").cast(pa.string()), self._run_id)
        final = pc.is_in(failed.column("error").cast(pa.string()), pa.array(_FINAL))
        for counted in failed.filter(pc.or_(own, final)).column("error").value_counts().to_pylist():
            self.errors[counted["values"]] += counted["counts"]

    def _reason(self, category: str, threshold: Threshold, count: int) -> str:
        images = self._num_images[category]
        expected = f"; {images * threshold.chance:.2g} expected" if threshold.chance else ""
        return (
            f"{category}: {count:,} of {images:,} images with {threshold.measure} over "
            f"{threshold.value:.4g}, {threshold.why}{expected}"
        )


def untold_runs(output: str, run_id: str, files: list[str], same_model: pc.Expression) -> list[str]:
    """Runs right before this one that wrote rows and ended before anybody was told of them."""
    seen: set[str] = set()
    for rows in read_rows(output, files, ["run_id"], same_model):
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
