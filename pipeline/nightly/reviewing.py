"""The review of a run: read from the score table when its night is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.calibration import MEASURES, Calibration, read_calibration
from pipeline.identity import ModelIdentity
from pipeline.output.layout import scores_of
from pipeline.output.rows import by_category, read_rows
from pipeline.output.snapshot import read_scores
from pipeline.output.tally import Highest, Tally
from pipeline.schema import FINAL_ERRORS, ErrorCode

from .alerts import AlertRule, Threshold
from .drift import compare
from .review import Alert, Counts, Review, ReviewedImage
from .samples import SAMPLED, Sample, nights_of, sample_categories
from .told import untold_runs

DEFAULT_NIGHTS = 30  # of the drift test, where no rule gives a number
BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
_IMAGE = ("uri", "category", "score", "score_logit", "anomalous_area")
_SHOWN = (*_IMAGE, *BOX)
_COLUMNS = tuple(dict.fromkeys([*SAMPLED, *_SHOWN, *MEASURES, "error"]))
_FINAL = [code.value for code in (*FINAL_ERRORS, ErrorCode.TOO_LARGE)]


def review_run(
    output: str,
    *,
    run_id: str,
    identity: ModelIdentity,
    scan_date: str,
    rule: AlertRule | None = None,
    top: int = 10,
) -> Review:
    """What a run found. Reads the score table, no maps and no images.

    Rows of runs that were stopped before anybody was told of them belong to this review: nothing
    that was found is lost because a driver died. All other rows of the same model, of the last
    nights and of earlier runs of this date, are the past that thresholds and drift compare with.
    ``mark_told`` ends that for a nightly run. Rows with other references are of another model: a
    category whose references changed has no past, as a new category has none.

    Memory is bounded: at most ``samples.SAMPLE_SIZE`` images of each category are held, on either
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
    calibration, outdated = None, list[str]()
    if rule and rule.thresholds:
        calibration = read_calibration(rule.thresholds)
        calibration.check_model(identity.base)
        outdated = calibration.outdated(identity)
        calibration = calibration.without(outdated)
    folder, same_model = scores_of(output), identity.condition()

    def read(files: list[str]) -> Review:
        by_date = nights_of(files, scan_date, rule.nights if rule else DEFAULT_NIGHTS)
        files = [uri for uris in by_date.values() for uri in uris]
        recent = [uri for date in list(by_date)[-2:] for uri in by_date[date]]
        untold = untold_runs(output, run_id, recent, same_model)
        run, error = (pc.field(name).cast(pa.string()) for name in ("run_id", "error"))
        tonight = run.isin([run_id, *untold])
        had_score = same_model & ~tonight & pc.field("score").is_valid()
        past = sample_categories(read_rows(folder, files, SAMPLED, had_score))
        night = _Night(rule, past, top, calibration)
        # An error that may pass was tried again by the run after the stopped one.
        stands = error.is_null() | error.isin(_FINAL) | (run == run_id)
        rows = read_rows(folder, recent, _COLUMNS, same_model & tonight & stands)
        drift = compare(sample_categories(map(night.add, rows)), past)
        tally = night.tally
        return Review(
            run_id=run_id,
            model=identity.base,
            references=identity.references,
            scan_date=scan_date,
            untold_runs=tuple(untold),
            past_nights=tuple(date for date in by_date if date < scan_date),
            counts=Counts(new=tally.num_rows, scored=tally.scored, errors=tally.errors.total()),
            errors=dict(tally.errors.most_common()),
            most_anomalous=_images(night.most_anomalous),
            drift=tuple(drift),
            alert=replace(night.alert(), outdated=tuple(outdated)),
        )

    return read_scores(folder, read)


def _images(highest: Highest) -> tuple[ReviewedImage, ...]:
    return tuple(
        ReviewedImage(box=tuple(row[name] for name in BOX), **{name: row[name] for name in _IMAGE})
        for row in highest.to_pylist()
    )


class _Night:
    """Counts, thresholds and the worst images, collected while the night's rows pass."""

    def __init__(
        self,
        rule: AlertRule | None,
        past: Mapping[str, Sample],
        top: int,
        calibration: Calibration | None,
    ) -> None:
        self.tally = Tally()
        self.most_anomalous = Highest(top, _SHOWN)
        self._rule, self._past, self._top, self._calibration = rule, past, top, calibration
        self._thresholds: dict[str, tuple[Threshold, ...]] = {}
        self._num_images: Counter[str] = Counter()
        self._num_over: Counter[tuple[str, Threshold]] = Counter()
        self._over: dict[str, Highest] = {}

    def add(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Take a batch of the night; returns its rows with a score."""
        scored = self.tally.add(rows)
        self.most_anomalous.add(scored)
        for category, positions in by_category(scored):
            self._num_images[category] += len(positions)
            over = np.zeros(len(positions), dtype=bool)
            for threshold in self._of(category):
                above = threshold.exceeded(scored, positions)
                self._num_over[category, threshold] += int(above.sum())
                over |= above
            if over.any():
                worst = self._over.setdefault(category, Highest(self._top, _SHOWN))
                worst.add(scored, positions[over])
        return scored

    def alert(self) -> Alert:
        """Whether the rule fired, why, and the worst of the images that it means."""
        if self._rule is None:
            return Alert()
        least = self._rule.min_count
        fired = {key: count for key, count in self._num_over.items() if count >= least}
        worst = Highest(self._top, _SHOWN)
        for category in {category for category, _ in fired}:
            if (rows := self._over[category].rows) is not None:
                worst.add(rows)
        known = self._calibration.limits if self._calibration else {}
        few = {c: self._past[c].num_images if c in self._past else 0 for c in self._thresholds}
        return Alert(
            fired=bool(fired),
            reasons=tuple(
                self._reason(*key, count) for key, count in sorted(fired.items(), key=str)
            ),
            images=_images(worst),
            rule=self._rule.as_dict(),
            thresholds=self._thresholds,
            uncalibrated={
                category: count
                for category, count in few.items()
                if category not in known and count < self._rule.min_images
            },
        )

    def _of(self, category: str) -> tuple[Threshold, ...]:
        if self._rule is None:
            return ()
        if category not in self._thresholds:
            past = self._past.get(category, Sample())
            found = self._rule.limits(category, past, self._calibration)
            self._thresholds[category] = tuple(found)
        return self._thresholds[category]

    def _reason(self, category: str, threshold: Threshold, count: int) -> str:
        images = self._num_images[category]
        expected = f"; {images * threshold.chance:.2g} expected" if threshold.chance else ""
        return (
            f"{category}: {count:,} of {images:,} images with {threshold.measure} over "
            f"{threshold.value:.4g}, {threshold.why}{expected}"
        )
