"""Which rows a page is about, and which nights stand behind them for comparison."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .morning import untold_runs
from .nights import nights_of, read_rows

MAX_RUNS = 100  # whose report.json a page of many nights reads: the newest


@dataclass(frozen=True)
class Query:
    """What a page is asked to show: one run, or whole nights. By default the newest night."""

    run_id: str | None = None
    """Only this run, with the rows of runs before it that nobody was told of."""
    first: str | None = None
    """First night, YYYY-MM-DD."""
    last: str | None = None
    """Last night, YYYY-MM-DD."""
    nights: int | None = None
    """So many nights, up to the last one."""
    model: str | None = None
    """Fingerprint; default: that of the newest run among the rows."""
    past: int = 30
    """How many nights before stand behind the distributions."""


@dataclass(frozen=True)
class Selection:
    """The answer: files by night, and the runs whose rows are meant."""

    model: str
    dates: dict[str, list[str]]
    """Score files of the nights that hold selected rows."""
    past: dict[str, list[str]]
    """Score files of the nights before."""
    run_ids: list[str]
    """Rows of these runs are selected; others of the same nights are past."""
    untold: list[str] = field(default_factory=list)
    """Those of ``run_ids`` that ended before anybody was told of them."""
    other_models: dict[str, int] = field(default_factory=dict)
    """Rows of the selected nights that are left out because another model made them."""


def select(output: str, files: list[str], query: Query, report: dict[str, Any]) -> Selection:
    """Find the rows that a query means. Reads two small columns of the selected nights.

    Args:
        output: absolute URI.
        files: the score files that count.
        report: report.json of ``query.run_id``, or empty.

    Raises:
        ValueError: there is no such night.
        StorageError, OSError: the output can't be read.
    """
    if query.run_id is not None:
        return _select_run(output, files, query, report)
    by_date = _by_date(files)
    wanted = sorted(d for d in by_date if (query.first or "") <= d <= (query.last or "9"))
    wanted = wanted[-(query.nights or (1 if query.first is None else len(wanted))) :]
    if not wanted:
        raise ValueError(_no_such_night(output, sorted(by_date), query))
    dates = {date: by_date[date] for date in wanted}
    rows: Counter[tuple[str, str]] = Counter()
    found = [uri for uris in dates.values() for uri in uris]
    for batch in read_rows(output, found, ["model", "run_id"], pc.scalar(True)):
        names = [batch.column(name).cast(pa.string()) for name in ("model", "run_id")]
        grouped = pa.table(names, names=["model", "run_id"]).group_by(["model", "run_id"])
        for each in grouped.aggregate([([], "count_all")]).to_pylist():
            rows[each["model"], each["run_id"]] += each["count_all"]
    model = query.model or max(rows, key=lambda pair: pair[1], default=("", ""))[0]
    other: Counter[str] = Counter()
    for (name, _), count in rows.items():
        if name != model:
            other[name] += count
    past = sorted(date for date in by_date if date < wanted[0])
    past = past[-query.past :] if query.past else []
    return Selection(
        model=model,
        dates=dates,
        past={date: by_date[date] for date in past},
        run_ids=sorted(run for name, run in rows if name == model),
        other_models=dict(other),
    )


def _select_run(output: str, files: list[str], query: Query, report: dict[str, Any]) -> Selection:
    model, scan_date = report["model"], report["settings"]["scan_date"]
    by_date = nights_of(files, scan_date, max(query.past, 1))
    recent = dict(sorted(by_date.items())[-2:])  # as far back as the review looks
    same_model = pc.field("model").cast(pa.string()) == model
    found = [uri for uris in recent.values() for uri in uris]
    run_id = str(query.run_id)
    untold = untold_runs(output, run_id, found, same_model)
    return Selection(
        model=model,
        dates=recent,
        past={date: uris for date, uris in by_date.items() if date not in recent},
        run_ids=[*untold, run_id],
        untold=untold,
    )


def _by_date(files: list[str]) -> dict[str, list[str]]:
    by_date: dict[str, list[str]] = defaultdict(list)
    for uri in files:
        if found := re.search(r"/scan_date=(\d{4}-\d\d-\d\d)/[^/]+$", uri):
            by_date[found[1]].append(uri)
    return by_date


def _no_such_night(output: str, dates: list[str], query: Query) -> str:
    if not dates:
        return f"{output} holds no scores; is it the output of a scoring job?"
    asked = f"from {query.first or dates[0]} to {query.last or dates[-1]}"
    return f"{output} has no night {asked}; its nights are from {dates[0]} to {dates[-1]}"
