"""One pass over rows of the score table: what a page needs of them, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.calibration import MEASURES
from pipeline.nightly.review import Review
from pipeline.output.chosen import read_matching
from pipeline.output.layout import scores_of
from pipeline.output.rows import (
    FILE,
    HELD_BY,
    by_category,
    measured,
    read_rows,
    rows_that_hold,
)
from pipeline.output.tally import Highest, Tally
from pipeline.storage import arrow_filesystem

from .distribution import Histogram
from .scope import Scope

MAX_CATEGORIES = 1_000  # of their own; a rule that makes one of every key would flood the page
EXAMPLES = 5  # of each kind of error
SHOWN = (
    *("image_id", "uri", "etag", "category", "score", "score_logit", "zero_shot_score"),
    *("reference_score", "nearest_reference", "map_max", "anomalous_area"),
    *("box_x0", "box_y0", "box_x1", "box_y1", "width", "height", "map_file", "map_row"),
    *("error", "error_message", "scored_at", "run_id", "scan_date", "model"),
)


@dataclass
class Category:
    """What is known of one category; "now" is the selected rows, "past" the others."""

    highest: Highest
    now: Histogram = field(default_factory=Histogram)
    past: Histogram = field(default_factory=Histogram)
    errors: int = 0
    over: int = 0
    nights: dict[str, list[float]] = field(default_factory=dict)
    """``Histogram.summary`` by date."""
    _night: Histogram | None = None

    @property
    def selected(self) -> bool:
        """Whether any of the selected rows is in it."""
        return bool(self.errors or self.now.num_images)

    def add(self, scores: NDArray[np.float32], *, selected: bool) -> None:
        """Add scores [n] of the night that passes."""
        (self.now if selected else self.past).add(scores)
        self._night = self._night or Histogram()
        self._night.add(scores)

    def end_night(self, date: str) -> None:
        """Note what was added since the last one."""
        if self._night:
            self.nights[date], self._night = self._night.summary(), None

    def as_dict(self, name: str | None, review: Review) -> dict[str, Any]:
        """Ready for JSON, with what the nightly review said of it."""
        return {
            "name": name,
            "errors": self.errors,
            "over": self.over,
            "now": self.now.summary(),
            "past": self.past.summary(),
            "histogram": self.now.as_dict(),
            "past_histogram": self.past.as_dict(),
            "nights": [[date, *summary] for date, summary in sorted(self.nights.items())],
            "thresholds": [asdict(each) for each in review.alert.of(name)],
            "drifted": name in review.drifted,
        }


class Collector:
    """Counts, distributions and the highest images, collected while rows pass."""

    def __init__(self, output: str, scope: Scope, review: Review, gallery: int) -> None:
        self.review = review
        self.tally = Tally(EXAMPLES, {"image_id": "image_id", FILE: FILE})
        """Of the selected rows."""
        self.nights: dict[str, dict[str, Any]] = {}
        """Images of each night by date: the selected ones, or if there are none, the others."""
        self.categories: dict[str, Category] = {}
        self._folder, self._scope, self._gallery = scores_of(output), scope, gallery
        files = [uri for uris in scope.dates.values() for uri in uris]
        self._files = {arrow_filesystem(uri)[1]: uri for uri in files}
        self._runs = pa.array(scope.run_ids, pa.string())
        self._same_model = scope.identity.condition()
        self.together = Category(Highest(0))
        """All categories; its ``highest`` stays empty."""
        self.others = self._new_category()
        """Categories beyond ``MAX_CATEGORIES``, together."""

    def read(self) -> None:
        """The selected nights first: they say which categories there are."""
        columns = ("image_id", "category", "score_logit", *MEASURES, "error", "run_id", FILE)
        for date, files in self._scope.dates.items():
            own, others = Tally(), Tally()
            for rows in read_rows(self._folder, files, columns, self._same_model):
                mine = pc.is_in(rows.column("run_id").cast(pa.string()), self._runs)
                self._add(own, rows.filter(mine))
                self._add_past(others, rows.filter(pc.invert(mine)), create=True)
            self._end_night(date, own if own.num_rows else others, selected=own.num_rows > 0)
        self.categories = {name: each for name, each in self.categories.items() if each.selected}
        for date, files in self._scope.past.items():
            others = Tally()
            for rows in read_rows(
                self._folder, files, ("category", "score", "error"), self._same_model
            ):
                self._add_past(others, rows, create=False)
            self._end_night(date, others, selected=False)

    def all_categories(self) -> Iterator[Category]:
        """Every category, and the others together."""
        yield from self.categories.values()
        yield self.others

    def whole_rows(self, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The row that holds of each image, in the order of ``wanted``: image_id and ``FILE``.

        Images whose object has another one that holds, as after a replacement, have none.
        """
        ids = list(dict.fromkeys(row["image_id"] for row in wanted))
        files = self._uris(row[FILE] for row in wanted)
        uris = self._table(files, ["uri"], "image_id", ids)["uri"].unique().to_pylist()
        # An object may have another row in another run.
        files = list(self._files.values()) if len(self._scope.run_ids) > 1 else files
        held = rows_that_hold(self._table(files, (*HELD_BY, FILE), "uri", uris).to_pandas())
        held = held[held["image_id"].isin(ids)]
        rows = self._table(self._uris(held[FILE]), SHOWN, "image_id", ids).to_pylist()
        by_key = {(row["image_id"], row["scored_at"]): row for row in rows}
        keys = zip(held["image_id"], held["scored_at"], strict=True)
        by_id = {image_id: by_key[image_id, at.to_pydatetime()] for image_id, at in keys}
        return [by_id[image_id] for image_id in ids if image_id in by_id]

    def gallery_row(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row, ready for JSON, and whether it is over a threshold of its category."""
        thresholds = self.review.alert.of(row["category"])
        return row | {
            "scored_at": row["scored_at"].isoformat(timespec="seconds"),
            "night": row["scan_date"],
            "over": any((row[each.measure] or 0) > each.value for each in thresholds),
        }

    def _uris(self, paths: Iterable[str]) -> list[str]:
        """Files by the paths that Arrow gives them, in their order."""
        paths = set(paths)
        return [uri for path, uri in self._files.items() if path in paths]

    def _table(
        self, files: list[str], columns: Sequence[str], key: str, values: list[str]
    ) -> pa.Table:
        """Selected rows with one of some values in a column, their dictionaries made plain."""
        runs = pc.field("run_id").cast(pa.string()).isin(self._runs)
        columns = [*columns, "run_id"]
        return read_matching(files, columns, self._same_model & runs, key, values)

    def _add(self, tally: Tally, rows: pa.RecordBatch) -> None:
        if not rows.num_rows:
            return
        self.tally.add(rows)
        scored = tally.add(rows)
        for name, positions in by_category(rows.filter(rows.column("error").is_valid())):
            self._category(name).errors += len(positions)
        self.together.errors += rows.num_rows - scored.num_rows
        scores = measured(scored, "score")
        self.together.add(scores, selected=True)
        for name, positions in by_category(scored):
            category, over = self._category(name), self._count_over(name, scored, positions)
            category.add(scores[positions], selected=True)
            category.over += over
            self.together.over += over
            category.highest.add(scored, positions)

    def _add_past(self, tally: Tally, rows: pa.RecordBatch, *, create: bool) -> None:
        if not rows.num_rows:
            return
        scored = tally.add(rows)
        scores = measured(scored, "score")
        self.together.add(scores, selected=False)
        for name, positions in by_category(scored):
            category = self._category(name) if create else self.categories.get(name)
            if category is not None and category is not self.others:
                category.add(scores[positions], selected=False)

    def _end_night(self, date: str, tally: Tally, *, selected: bool) -> None:
        for category in (self.together, *self.categories.values()):
            category.end_night(date)
        if tally.num_rows:
            counts = {"scored": tally.scored, "errors": tally.errors.total()}
            self.nights[date] = {"date": date, "selected": selected, **counts}

    def _category(self, name: str) -> Category:
        if name not in self.categories:
            if len(self.categories) >= MAX_CATEGORIES:
                return self.others
            self.categories[name] = self._new_category()
        return self.categories[name]

    def _new_category(self) -> Category:
        return Category(Highest(self._gallery, [FILE], distinct=True))

    def _count_over(self, name: str, rows: pa.RecordBatch, positions: NDArray[np.intp]) -> int:
        over = np.zeros(len(positions), dtype=bool)
        for each in self.review.alert.of(name):
            over |= each.exceeded(rows, positions)
        return int(over.sum())
