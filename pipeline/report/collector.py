"""One pass over rows of the score table: what a page needs of them, in bounded memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.nightly.samples import by_category, measured, read_rows
from pipeline.output.rows import HELD_BY, rows_that_hold
from pipeline.storage import arrow_filesystem

from .distribution import Highest, Histogram
from .scope import Selection

MAX_CATEGORIES = 1_000  # of their own; a rule that makes one of every key would flood the page
EXAMPLES = 5  # of each kind of error
SHOWN = (
    *("image_id", "uri", "etag", "category", "score", "score_logit", "zero_shot_score"),
    *("reference_score", "nearest_reference", "map_max", "anomalous_area"),
    *("box_x0", "box_y0", "box_x1", "box_y1", "width", "height", "map_file", "map_row"),
    *("error", "error_message", "scored_at", "run_id"),
)
FILE = "__filename"  # Arrow's name for where a row was read


@dataclass
class Night:
    """Images of one night."""

    selected: bool = False
    """Whether any of the selected rows is of this night; then only these count."""
    scored: int = 0
    errors: int = 0

    def add(self, scored: int, errors: int, *, selected: bool) -> None:
        """Count images."""
        if selected and not self.selected:
            self.selected, self.scored, self.errors = True, 0, 0
        if selected == self.selected:
            self.scored, self.errors = self.scored + scored, self.errors + errors

    def as_dict(self, date: str) -> dict[str, Any]:
        """Ready for JSON."""
        return {"date": date} | vars(self)


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
    selected: bool = False
    """Whether any of the selected rows is in it."""

    def as_dict(self, name: str | None, review: dict[str, Any]) -> dict[str, Any]:
        """Ready for JSON, with what the nightly review said of it."""
        drift = [each for each in review.get("drift", []) if each["category"] == name]
        return {
            "name": name,
            "errors": self.errors,
            "over": self.over,
            "now": self.now.summary(),
            "past": self.past.summary(),
            "histogram": self.now.as_dict(),
            "past_histogram": self.past.as_dict(),
            "nights": [[date, *summary] for date, summary in sorted(self.nights.items())],
            "thresholds": thresholds_of(review).get(name, []),
            "drifted": any(each["drifted"] for each in drift),
        }


Histograms = dict[str | None, Histogram]
"""One night's, by category; None = all together."""


def thresholds_of(review: dict[str, Any]) -> dict[str | None, Any]:
    """A nightly review's alert thresholds by category."""
    found: dict[str | None, Any] = review.get("alert", {}).get("thresholds", {})
    return found


class Collector:
    """Counts, distributions and the highest images, collected while rows pass."""

    def __init__(
        self, output: str, selection: Selection, review: dict[str, Any], gallery: int
    ) -> None:
        self.review = review
        self._thresholds = thresholds_of(review)
        self.by_date: dict[str, Night] = defaultdict(Night)
        self.categories: dict[str, Category] = {}
        self.errors: Counter[str] = Counter()
        self.examples: dict[str, list[tuple[str, int]]] = {}
        self._output, self._selection, self._gallery = output, selection, gallery
        self._files = [uri for uris in selection.dates.values() for uri in uris]
        self._night = [date for date, uris in selection.dates.items() for _ in uris]
        self._number = {arrow_filesystem(uri)[1]: i for i, uri in enumerate(self._files)}
        self._runs = pa.array(selection.run_ids, pa.string())
        self._same_model = selection.identity.condition()
        self.together = Category(Highest(0))
        """All categories; its ``highest`` stays empty."""
        self.others = self._new_category()
        """Categories beyond ``MAX_CATEGORIES``, together."""

    def read(self) -> None:
        """The selected nights first: they say which categories there are."""
        columns = (
            *("image_id", "category", "score", "score_logit", "anomalous_area"),
            *("error", "run_id", FILE),
        )
        for date, files in self._selection.dates.items():
            here: Histograms = {}
            for rows in read_rows(self._output, files, columns, self._same_model):
                if not rows.num_rows:
                    continue
                mine = pc.is_in(rows.column("run_id").cast(pa.string()), self._runs)
                self._add(date, rows.filter(mine), here)
                self._add_past(date, rows.filter(pc.invert(mine)), here, create=True)
            self._close(date, here)
        self.categories = {name: each for name, each in self.categories.items() if each.selected}
        for date, files in self._selection.past.items():
            here = {}
            past = ("category", "score", "error")
            for rows in read_rows(self._output, files, past, self._same_model):
                self._add_past(date, rows, here, create=False)
            self._close(date, here)

    def all_categories(self) -> Iterator[Category]:
        """Every category, and the others together."""
        yield from self.categories.values()
        yield self.others

    def whole_rows(self, wanted: list[tuple[str, int]]) -> list[dict[str, Any]]:
        """The row that holds of each image, in the order of ``wanted`` (ids and file numbers).

        Images whose object has another one that holds, as after a replacement, have none.
        """
        ids = list(dict.fromkeys(image_id for image_id, _ in wanted))
        files = [self._files[number] for number in sorted({number for _, number in wanted})]
        uris = self._table(files, ["uri"], "image_id", ids)["uri"].unique().to_pylist()
        # An object may have another row in another run.
        files = self._files if len(self._selection.run_ids) > 1 else files
        held = rows_that_hold(self._table(files, (*HELD_BY, FILE), "uri", uris).to_pandas())
        held = held[held["image_id"].isin(ids)]
        paths = held[FILE].unique()
        files = [self._files[number] for number in sorted(self._number[path] for path in paths)]
        by_key = {}
        for row in self._table(files, (*SHOWN, FILE), "image_id", ids).to_pylist():
            row["night"] = self._night[self._number[row.pop(FILE)]]
            by_key[row["image_id"], row["scored_at"]] = row
        keys = zip(held["image_id"], held["scored_at"], strict=True)
        by_id = {image_id: by_key[image_id, at.to_pydatetime()] for image_id, at in keys}
        return [by_id[image_id] for image_id in ids if image_id in by_id]

    def gallery_row(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row, ready for JSON, and whether it is over a threshold of its category."""
        found = self._thresholds.get(row["category"], [])
        over = any((row[each["measure"]] or 0) > each["value"] for each in found)
        return row | {"scored_at": row["scored_at"].isoformat(timespec="seconds"), "over": over}

    def _table(
        self, files: list[str], columns: Sequence[str], key: str, values: list[str]
    ) -> pa.Table:
        """Selected rows with one of some values in a column, their dictionaries made plain."""
        runs = pc.field("run_id").cast(pa.string()).isin(self._runs)
        where = self._same_model & runs & pc.field(key).isin(pa.array(values, pa.string()))
        batches = list(read_rows(self._output, files, columns, where))
        if not batches:
            return pa.table({name: pa.array([], pa.string()) for name in columns})
        return pa.Table.from_batches(batches).unify_dictionaries()

    def _add(self, date: str, rows: pa.RecordBatch, here: Histograms) -> None:
        if not rows.num_rows:
            return
        file = self._number[rows.column(FILE)[0].as_py()]
        self._add_errors(rows.filter(rows.column("error").is_valid()), file)
        scored = rows.filter(rows.column("score").is_valid())
        self.by_date[date].add(scored.num_rows, rows.num_rows - scored.num_rows, selected=True)
        ids, scores = scored.column("image_id"), measured(scored, "score")
        logits = measured(scored, "score_logit")
        self.together.now.add(scores)
        here.setdefault(None, Histogram()).add(scores)
        for name, positions in by_category(scored):
            category, over = self._category(name), self._count_over(name, scored, positions)
            category.selected = True
            category.now.add(scores[positions])
            here.setdefault(name, Histogram()).add(scores[positions])
            category.over += over
            self.together.over += over
            if self._gallery:
                taken = ids.take(pa.array(positions))
                category.highest.add(scores[positions], logits[positions], taken, file)

    def _add_errors(self, failed: pa.RecordBatch, file: int) -> None:
        self.together.errors += failed.num_rows
        for name, positions in by_category(failed):
            category = self._category(name)
            category.selected = True
            category.errors += len(positions)
        codes = failed.column("error").cast(pa.string())
        for counted in codes.value_counts().to_pylist():
            code = counted["values"]
            self.errors[code] += counted["counts"]
            kept = self.examples.setdefault(code, [])
            if len(kept) < EXAMPLES:
                ids = failed.column("image_id").filter(pc.equal(codes, code))
                kept += [(i, file) for i in ids[: EXAMPLES - len(kept)].to_pylist()]

    def _add_past(self, date: str, rows: pa.RecordBatch, here: Histograms, *, create: bool) -> None:
        if not rows.num_rows:
            return
        scored = rows.filter(rows.column("score").is_valid())
        self.by_date[date].add(scored.num_rows, rows.num_rows - scored.num_rows, selected=False)
        scores = measured(scored, "score")
        self.together.past.add(scores)
        here.setdefault(None, Histogram()).add(scores)
        for name, positions in by_category(scored):
            category = self._category(name) if create else self.categories.get(name)
            if category is not None and category is not self.others:
                category.past.add(scores[positions])
                here.setdefault(name, Histogram()).add(scores[positions])

    def _close(self, date: str, here: Histograms) -> None:
        for name, histogram in here.items():
            category = self.together if name is None else self.categories.get(name)
            if category is not None:
                category.nights[date] = histogram.summary()

    def _category(self, name: str) -> Category:
        if name in self.categories:
            return self.categories[name]
        full = len(self.categories) >= MAX_CATEGORIES
        category = self.others if full else self._new_category()
        if not full:
            self.categories[name] = category
        return category

    def _new_category(self) -> Category:
        return Category(Highest(self._gallery))

    def _count_over(self, name: str, rows: pa.RecordBatch, positions: Any) -> int:
        over = np.zeros(len(positions), dtype=bool)
        for each in self._thresholds.get(name, []):
            over |= measured(rows, each["measure"])[positions] > each["value"]
        return int(over.sum())
