"""Counts, rates and errors of one run: the progress line, the closing table, report.json."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.calibration import Calibration, above
from pipeline.identity import ModelIdentity
from pipeline.output.ledger import Before
from pipeline.output.tally import Tally
from pipeline.provenance import peak_memory_bytes, versions
from pipeline.redaction import redact, redacted_json
from pipeline.schema import DEEP_SHARE, TIMINGS
from pipeline.terminal import clean, duration

EXAMPLES_PER_ERROR = 3
EXAMPLE = {"uri": "uri", "message": "error_message"}
MAX_CATEGORIES = 10  # of the closing table
NARROW = 1 / 8  # of the range of 16 bits: of a picture of 12, a sixteenth


@dataclass(kw_only=True)
class RunReport:
    """Filled while the run goes on; ``listed = scored + skipped + errors`` when it is complete."""

    run_id: str
    settings: dict[str, Any]
    source: str = ""
    """Name of the nightly scan; empty for a run of its own."""
    model: str = ""
    """Fingerprint of AdaCLIP and the decoder."""
    references: Mapping[str, str] = field(default_factory=dict)
    """By category, the id of its reference set."""
    references_uri: str = ""
    """Where the reference sets are."""
    status: str = "running"
    """running, done, too_many_errors, failed or interrupted."""
    message: str = ""
    """Why the status is not done."""
    listed: int = 0
    excluded: int = 0
    skipped: int = 0
    before: Before = field(default_factory=Before)
    """How the skipped images had ended."""
    pending: int = 0
    """Rows this run had to do: listed − skipped."""
    tally: Tally = field(default_factory=lambda: Tally(EXAMPLES_PER_ERROR, EXAMPLE))
    """Of the rows that came out."""
    calibration: Calibration | None = None
    """Thresholds of this model that scored images are counted above; those of other references
    count as none."""
    above: Counter[str] = field(default_factory=Counter)
    """Images above their category's threshold of the score."""
    uncalibrated: Counter[str] = field(default_factory=Counter)
    """Scored images of categories without a threshold."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds: list, model, run, write; and busy seconds summed over all workers:
    fetch, decode, score."""
    map_bytes: int = 0
    score_bytes: int = 0
    scorer_memory: int = 0
    """Peak resident bytes of the largest scorer process."""
    deep: int = 0
    """Images of more than 8 bits that were taken without a range."""
    narrow: int = 0
    """Of those, the ones that use less than ``NARROW`` of theirs."""
    page_problem: str = ""
    """Why the run folder has no report.html."""
    started: float = field(default_factory=time.monotonic)
    first_rows: tuple[float, int] | None = None
    """When the first rows came out (``time.monotonic``), and how many."""
    last_rows: float = 0.0
    """When the newest rows came out."""

    @property
    def identity(self) -> ModelIdentity:
        """The model of this run's rows."""
        return ModelIdentity(self.model, self.references)

    @property
    def scored(self) -> int:
        """Images that ended in a score."""
        return self.tally.scored

    @property
    def errors(self) -> Counter[str]:
        """Images that ended in an error, by code."""
        return self.tally.errors

    @property
    def num_errors(self) -> int:
        """Images that ended in an error."""
        return self.errors.total()

    @property
    def num_done(self) -> int:
        """Images that ended in a row."""
        return self.tally.num_rows

    def too_many_errors(self, most: float, *, count_known: bool) -> str:
        """Why this run failed if at most a share of images may end in an error; "" if it did not.

        Args:
            most: the share, in [0, 1].
            count_known: errors that an earlier run found, and that no try can change, count as
                well, so that a failed run that is repeated fails again: among the images of the
                scan date, and among all that are listed.
        """
        before, known = self.before, self.before.errors.total()
        groups = [("this run's", self.num_errors, self.num_done)]
        if count_known:
            of_date = self.num_errors + before.errors_of_date, self.num_done + before.of_date
            of_listed = self.num_errors + known, self.num_done + self.skipped
            groups += [("this scan date's", *of_date), ("the listed", *of_listed)]
        for whose, errors, images in groups:
            if images and errors / images > most:
                earlier = f" ({errors - self.num_errors:,} of them in an earlier run)"
                return (
                    f"{errors:,} of {whose} {images:,} images, {errors / images:.1%}, ended in an "
                    f"error{earlier if errors > self.num_errors else ''}, more than "
                    f"--max-error-rate {most:.1%}"
                )
        return ""

    def add(self, rows: pa.Table) -> None:
        """Count scored rows (``schema.scored_schema``)."""
        self.last_rows = time.monotonic()
        if self.first_rows is None and len(rows):
            self.first_rows = self.last_rows, len(rows)
        scored = self.tally.add(rows)
        if self.calibration is not None:
            frame = scored.select(["category", "score"]).to_pandas()
            is_above = above(frame, self._limits())
            self.above.update(frame.category[is_above.fillna(False)])
            self.uncalibrated.update(frame.category[is_above.isna()])
        for name in TIMINGS:
            stage = name.removesuffix("_s")
            spent = pc.sum(rows[name]).as_py() or 0.0
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
        shares = pc.drop_null(rows[DEEP_SHARE.name])
        self.deep += len(shares)
        self.narrow += pc.sum(pc.less(shares, NARROW)).as_py() or 0
        self.scorer_memory = max(self.scorer_memory, pc.max(rows["scorer_memory"]).as_py() or 0)

    @property
    def steady_rate(self) -> float | None:
        """Images/s after the first rows came out, so without the start of tasks and model."""
        if self.first_rows is None:
            return None
        first, count = self.first_rows
        return _rate(self.num_done - count, self.last_rows - first)

    def remarks(self) -> list[str]:
        """What may not be meant, of the images as they were."""
        if 2 * self.narrow <= self.deep or not self.deep:
            return []
        return [
            f"{self.narrow:,} of {self.deep:,} images of more than 8 bits use less than an eighth "
            "of their range, so the model sees little of them; where the camera has 12 bits, "
            "--gray-range 0 4095 scores them as they are meant"
        ]

    def start_line(self) -> str:
        """What there is to do, and how what is done had ended."""
        known = self.before.errors
        parts = [f"{self.skipped - known.total():,} scored before"]
        parts += [
            f"{count:,} {code} before, which no try can change" for code, count in known.items()
        ]
        todo = f"{self.pending:,} images to score" if self.pending else "nothing to score"
        return f"{todo}, {', '.join(parts)}"

    def progress_line(self, elapsed_s: float) -> str:
        """Images done / total, images/s, errors, time left."""
        if not self.num_done:
            return f"0 / {self.pending:,} images · none finished yet, {duration(elapsed_s)} so far"
        rate = self.num_done / elapsed_s if elapsed_s > 0 else 0.0
        left = duration((self.pending - self.num_done) / rate) if rate else "?"
        return (
            f"{self.num_done:,} / {self.pending:,} images · {rate:.3g} images/s · "
            f"{self.num_errors:,} errors · {left} left"
        )

    def as_dict(self) -> dict[str, Any]:
        """What report.json holds."""
        run_s = self.seconds.get("run", 0.0)
        busy = {s: self.seconds.get(s, 0.0) for s in ("fetch", "decode", "score", "write")}
        return {
            "run_id": self.run_id,
            "source": self.source,
            "status": self.status,
            "message": self.message,
            "model": self.model,
            "references": self._references(),
            "counts": {
                "listed": self.listed,
                "scored": self.scored,
                "skipped": self.skipped,
                "errors_before": self.before.errors.total(),
                "errors": self.num_errors,
                "not_reached": self.pending - self.num_done,
                "excluded": self.excluded,
            },
            "errors": dict(self.errors),
            "errors_before": dict(self.before.errors),
            "error_examples": self.tally.examples,
            "thresholds": self._thresholds(),
            "seconds": {k: round(v, 3) for k, v in self.seconds.items()},
            "images_per_s": {
                "list": _rate(self.listed, self.seconds.get("list", 0.0)),
                "run": _rate(self.num_done, run_s),
                "steady": self.steady_rate,
                **{stage: _rate(self.num_done, spent) for stage, spent in busy.items()},
            },
            "bytes": {
                "maps": self.map_bytes,
                "scores": self.score_bytes,
                "per_map": round(self.map_bytes / self.scored, 1) if self.scored else None,
                "per_image": self._bytes_per_image(),
            },
            "peak_memory_bytes": {"driver": peak_memory_bytes(), "scorer": self.scorer_memory},
            "page_problem": self.page_problem,
            "settings": self.settings,
            "versions": versions(),
            "platform": platform.platform(),
        }

    def _references(self) -> dict[str, Any]:
        if not self.references:
            return {}
        return {"uri": self.references_uri, "sets": dict(self.references)}

    @property
    def outdated(self) -> list[str]:
        """Categories whose thresholds are of other references than this run's scores."""
        return self.calibration.outdated(self.identity) if self.calibration else []

    def _limits(self) -> dict[str, float]:
        """Thresholds of the score by category."""
        assert self.calibration is not None
        values, outdated = self.calibration.values("score"), self.outdated
        return {name: value for name, value in values.items() if name not in outdated}

    def _thresholds(self) -> dict[str, Any] | None:
        if self.calibration is None:
            return None
        return {
            "false_alarm_rate": self.calibration.false_alarm_rate,
            "confidence": self.calibration.confidence,
            "score": self._limits(),
            "outdated": self.outdated,
            "above": dict(self.above),
            "uncalibrated": dict(self.uncalibrated),
        }

    def to_json(self) -> bytes:
        """report.json as bytes, without secrets."""
        return redacted_json(self.as_dict())

    def table(self) -> str:
        """The closing summary for a terminal."""
        data = self.as_dict()
        counts, rates, memory = data["counts"], data["images_per_s"], data["peak_memory_bytes"]
        lines = [f"run {self.run_id}: {self.status}", f"model {self.model}", ""]
        lines += [f"  {name:<14}{counts[name]:>12,}" for name in counts]
        if self.calibration is not None:
            lines += ["", f"  {self.above.total():,} above the threshold of their category"]
            for category, count in self.above.most_common(MAX_CATEGORIES):
                lines.append(f"    {clean(category, 40):<40}{count:>8,}")
            if self.uncalibrated:
                lines.append(f"    no threshold: {self.uncalibrated.total():,}")
            if self.outdated:
                names = clean(", ".join(self.outdated), 200)
                lines.append(f"    thresholds of other references, to calibrate again: {names}")
        if self.errors:
            lines += ["", "  errors"]
            for code, count in self.errors.most_common():
                example = self.tally.examples[code][0]["message"]
                lines.append(f"    {code:<18}{count:>8,}   {clean(redact(example))}")
        if self.before.errors:
            lines += ["", "  errors of earlier runs, which no try can change"]
            for code, count in self.before.errors.most_common():
                lines.append(f"    {code:<18}{count:>8,}")
        lines += ["", f"  {'stage':<10}{'seconds':>10}{'images/s':>12}"]
        for stage in ("list", "fetch", "decode", "score", "write", "run"):
            rate = "" if rates[stage] is None else f"{rates[stage]:,.3g}"
            lines.append(f"  {stage:<10}{self.seconds.get(stage, 0.0):>10,.1f}{rate:>12}")
        lines += [
            "  (fetch, decode and score: busy seconds summed over all workers)",
            "",
            f"  peak memory: driver {memory['driver'] / 1e6:,.0f} MB, "
            f"scorer {memory['scorer'] / 1e6:,.0f} MB",
        ]
        if self._bytes_per_image():
            whole, per_map = data["bytes"]["per_image"], data["bytes"]["per_map"] or 0.0
            lines.append(f"  bytes per image: {whole:,.0f}; per map: {per_map:,.0f}")
        return "\n".join(lines)

    def _bytes_per_image(self) -> float | None:
        """Scores and maps on storage, for each image that ended in a row."""
        written = self.map_bytes + self.score_bytes
        return round(written / self.num_done, 1) if self.num_done else None


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 4) if seconds > 0 else None
