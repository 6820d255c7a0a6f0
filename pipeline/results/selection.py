"""Which rows a reader asks for, and how little of the table is opened to find them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.identity import ModelIdentity, rows_of
from pipeline.output.chosen import Bound, read_chosen, read_matching
from pipeline.output.layout import partition_of, scan_date_of
from pipeline.output.rows import read_rows
from pipeline.output.snapshot import holds_scores, read_scores
from pipeline.storage import absolute_prefix

Day = str | date
Days = Day | Sequence[Day] | tuple[Day | None, Day | None]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Rows by partition, category, model and place."""

    scan_date: Days | None = None
    """One date, a list of dates, or a range (from, to), both inclusive, None = open. An empty list
    has no rows."""
    category: str | Sequence[str] | None = None
    """One class name, or several; an empty list has no rows."""
    model: str | ModelIdentity | None = None
    """A row's model; a fingerprint without references has its rows with any of them, too. Or the
    identity of a run: of each category, the rows with its references only."""
    prefix: str | None = None
    """What the URIs begin with; spelled like an input, so "photos/good" is a local path."""

    def __post_init__(self) -> None:
        if self.category is not None:  # an iterator would be at its end after the first use
            object.__setattr__(self, "category", names_of(self.category))

    def read(self, folder: str, read: Callable[[list[str]], T]) -> T:
        """The result of ``read`` on the score files of the selected dates.

        Files of other dates are not opened; those of single dates are not even listed.

        Raises:
            FileNotFoundError: the folder has no score file at all.
            StorageError: the folder can't be listed.
            ValueError: a date is none, or a range ends before it begins.
        """

        def read_selected(files: list[str]) -> T:
            if not files and not holds_scores(folder):
                raise FileNotFoundError(f"{folder} holds no scores; is it below an output?")
            return read(self._of_range(files))

        return read_scores(folder, read_selected, self._partitions())

    def rows(self, folder: str, files: list[str], columns: Sequence[str]) -> Iterator[pa.Table]:
        """The selected rows with some of ``COLUMNS``, in parts of bounded memory."""
        if self.category is not None:
            yield from self.chosen(files, columns)
            return
        for batch in read_rows(folder, files, columns, self._condition()):
            yield pa.Table.from_batches([batch])

    def matching(
        self, files: list[str], columns: Sequence[str], key: str, values: Iterable[str]
    ) -> pa.Table:
        """The few selected rows with one of some values in a column (``output.chosen``)."""
        wanted = pd.unique(pd.Series(values, dtype=str))
        return read_matching(files, columns, self._condition(), key, wanted, self._bounds())

    def chosen(
        self,
        files: list[str],
        columns: Sequence[str],
        *,
        look_at: Sequence[str] = (),
        choose: Callable[[pa.Table], Any] = lambda rows: pa.repeat(True, len(rows)),
        bounds: Sequence[Bound] = (),
    ) -> Iterator[pa.Table]:
        """The selected rows that a look at some columns chooses (``output.chosen.read_chosen``).

        Row groups whose statistics exclude the category, or are beyond ``bounds``, are not read.
        """

        def choose_here(rows: pa.Table) -> Any:
            return pc.and_(choose(rows), self.of_category(rows))

        for rows in read_chosen(
            files,
            [*columns, "category", *(() if self._by_category_only else ("model", "uri"))],
            look_at=list(dict.fromkeys([*look_at, "category"])),
            choose=choose_here,
            bounds=[*bounds, *self._bounds()],
        ):
            yield self.of_model_and_prefix(rows).select(columns)

    def of_category(self, rows: pa.Table) -> pa.ChunkedArray:
        """Which rows are of the category; all of them if none is given."""
        if self.category is None:
            return pa.chunked_array([pa.repeat(True, len(rows))])
        return pc.is_in(rows["category"].cast(pa.string()), pa.array(self.category, pa.string()))

    def of_model_and_prefix(self, rows: pa.Table) -> pa.Table:
        """Those rows, of the category, that are selected; with category, model and uri."""
        return rows if self._by_category_only else rows.filter(self._condition())

    @property
    def _by_category_only(self) -> bool:
        return self.model is None and self.prefix is None

    def _bounds(self) -> list[Bound]:
        """Arrow looks at the statistics of plain columns by itself, not of dictionaries."""
        if self.category is None:
            return []
        names = self.category
        return [Bound("category", lambda low, high: any(low <= name <= high for name in names))]

    def _condition(self) -> pc.Expression:
        """The rows, for a dataset of the selected files."""
        condition = pc.scalar(True)
        if self.category is not None:
            chosen = pa.array(self.category, pa.string())
            condition &= pc.field("category").cast(pa.string()).isin(chosen)
        if isinstance(self.model, ModelIdentity):
            condition &= self.model.condition()
        elif self.model is not None:
            condition &= rows_of(self.model)
        if self.prefix is not None:
            condition &= pc.starts_with(pc.field("uri"), absolute_prefix(self.prefix))
        return condition

    def _partitions(self) -> list[str] | None:
        days = self.scan_date
        if days is None or isinstance(days, tuple):
            return None
        several = isinstance(days, Iterable) and not isinstance(days, str)
        chosen: Any = days if several else [days]
        return [partition_of(_iso(day)) for day in dict.fromkeys(chosen)]

    def _of_range(self, files: list[str]) -> list[str]:
        if not isinstance(self.scan_date, tuple):
            return files
        if len(self.scan_date) != 2:
            raise ValueError("a range of dates is (from, to); single dates go into a list")
        first, last = ("" if day is None else _iso(day) for day in self.scan_date)
        if last and first > last:
            raise ValueError(f"a range of dates is (from, to), and {first} is after {last}")
        dated = ((uri, scan_date_of(uri)) for uri in files)
        return [uri for uri, day in dated if day and first <= day <= (last or "9999")]


def names_of(names: str | Iterable[str]) -> list[str]:
    """One name, or several, as a list."""
    return [names] if isinstance(names, str) else list(names)


def _iso(day: Any) -> str:
    try:
        found = day if isinstance(day, str) else f"{day:%Y-%m-%d}"
        if date.fromisoformat(found).isoformat() == found:
            return found
    except (TypeError, ValueError):
        pass
    raise ValueError(f"scan_date {day!r} is not YYYY-MM-DD")
