"""Which rows a page is about, and which nights stand behind them for comparison."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.identity import MARK, ModelIdentity, base_of, references_of
from pipeline.nightly.samples import nights_of
from pipeline.nightly.told import untold_runs
from pipeline.output.layout import by_scan_date, scores_of
from pipeline.output.rows import read_rows

NAMED = 10  # models that an error lists: those with the most rows
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
    """Fingerprint; default: that of the newest run among the rows. Each category has the references
    of its newest run, or those behind the fingerprint."""
    past: int = 30
    """How many nights before stand behind the distributions."""


@dataclass(frozen=True)
class Scope:
    """The answer: files by night, and the runs whose rows are meant."""

    identity: ModelIdentity
    """Of the rows that are meant."""
    dates: dict[str, list[str]]
    """Score files of the nights that hold selected rows."""
    past: dict[str, list[str]]
    """Score files of the nights before."""
    run_ids: list[str]
    """Rows of these runs are selected; others of the same nights are past."""
    untold: list[str] = field(default_factory=list)
    """Those of ``run_ids`` that ended before anybody was told of them."""
    other_models: dict[str, int] = field(default_factory=dict)
    """Rows of the selected nights that are left out because another model made them, or the same
    one with other references of their category."""


def find_scope(output: str, files: list[str], query: Query, report: dict[str, Any]) -> Scope:
    """Find the rows that a query means. Reads three small columns of the selected nights.

    Args:
        output: absolute URI.
        files: the score files that count.
        report: report.json of ``query.run_id``, or empty.

    Raises:
        ValueError: there is no such night, or it has no row of the query's model, or none with its
            references.
        StorageError, OSError: the output can't be read.
    """
    if query.run_id is not None:
        return _scope_of_run(output, files, query, report)
    by_date = by_scan_date(files)
    wanted = [date for date in by_date if (query.first or "") <= date <= (query.last or "9")]
    wanted = wanted[-(query.nights or (1 if query.first is None else len(wanted))) :]
    if not wanted:
        raise ValueError(_no_such_night(output, list(by_date), query))
    dates = {date: by_date[date] for date in wanted}
    found = [uri for uris in dates.values() for uri in uris]
    rows = _count(output, found, pc.scalar(True), of_all=False)
    newest = max(rows, key=lambda kind: kind.run_id, default=_Kind("", ""))
    model = query.model or base_of(newest.model)
    if query.model and not any(base_of(kind.model) == base_of(model) for kind in rows):
        raise ValueError(_no_such_model(output, model, rows))
    rows = _with_categories(output, found, base_of(model), rows)
    identity = _choose(model, rows)
    own = [kind for kind in rows if kind.model == identity.of(kind.category)]
    other: Counter[str] = Counter()
    for kind in rows.keys() - own:
        other[kind.model] += rows[kind]
    past = [date for date in by_date if date < wanted[0]]
    past = past[-query.past :] if query.past else []
    return Scope(
        identity=identity,
        dates=dates,
        past={date: by_date[date] for date in past},
        run_ids=sorted({kind.run_id for kind in own}),
        other_models=dict(other),
    )


class _Kind(NamedTuple):
    """What tells rows apart here."""

    model: str
    run_id: str
    category: str | None = None
    """None stands for all categories without references, of which there may be very many."""


def _count(
    output: str, files: list[str], condition: pc.Expression, *, of_all: bool
) -> Counter[_Kind]:
    """How many rows there are of each kind; categories of all, or of rows with references only."""
    rows: Counter[_Kind] = Counter()
    for batch in read_rows(scores_of(output), files, _Kind._fields, condition):
        model, run_id, category = (batch.column(name).cast(pa.string()) for name in _Kind._fields)
        if not of_all:
            category = pc.if_else(pc.match_substring(model, MARK), category, None)
        kinds = pa.table([model, run_id, category], names=_Kind._fields).group_by(_Kind._fields)
        for each in kinds.aggregate([([], "count_all")]).to_pylist():
            rows[_Kind(*(each[name] for name in _Kind._fields))] += each["count_all"]
    return rows


def _with_categories(
    output: str, files: list[str], base: str, rows: Counter[_Kind]
) -> Counter[_Kind]:
    """The same rows, with those told apart that categories with references have without them."""
    referred = {kind.category for kind in rows if kind.category and base_of(kind.model) == base}
    if not referred:
        return rows
    without = pc.field("model").cast(pa.string()) == base
    these = pc.field("category").cast(pa.string()).isin(pa.array(referred, pa.string()))
    before = _count(output, files, without & these, of_all=True)
    for kind, count in before.items():
        rows[kind._replace(category=None)] -= count
    return +rows + before


def _choose(model: str, rows: Counter[_Kind]) -> ModelIdentity:
    """Of each category with references, those of its newest run, or those that the model names."""
    base, wanted = base_of(model), references_of(model)
    newest: dict[str, str | None] = {}
    for kind in sorted(rows, key=lambda kind: (bool(wanted) and kind.model == model, kind.run_id)):
        if kind.category is not None and base_of(kind.model) == base:
            newest[kind.category] = references_of(kind.model)
    if wanted and wanted not in newest.values():
        raise ValueError(f"these nights have no row with the references {wanted}")
    return ModelIdentity(base, {name: found for name, found in newest.items() if found})


def _scope_of_run(output: str, files: list[str], query: Query, report: dict[str, Any]) -> Scope:
    scan_date = report["settings"]["scan_date"]
    references = report.get("references") or {}
    identity = ModelIdentity(report["model"], references.get("sets", {}))
    by_date = nights_of(files, scan_date, max(query.past, 1))
    recent = dict(list(by_date.items())[-2:])  # as far back as the review looks
    found = [uri for uris in recent.values() for uri in uris]
    run_id = str(query.run_id)
    untold = untold_runs(output, run_id, found, identity.condition())
    return Scope(
        identity=identity,
        dates=recent,
        past={date: uris for date, uris in by_date.items() if date not in recent},
        run_ids=[*untold, run_id],
        untold=untold,
    )


def _no_such_model(output: str, model: str, rows: Counter[_Kind]) -> str:
    counts: Counter[str] = Counter()
    for kind, number in rows.items():
        counts[base_of(kind.model)] += number
    there = [f"{name} ({number:,})" for name, number in counts.most_common(NAMED)]
    there += [f"{len(counts) - NAMED:,} more"] if len(counts) > NAMED else []
    return (
        f"these nights of {output} have no row of the model {base_of(model)}; they have, with the "
        f"number of rows, {', '.join(there) or 'no row at all'}. "
        "Give one of these fingerprints, or other nights"
    )


def _no_such_night(output: str, dates: list[str], query: Query) -> str:
    if not dates:
        return f"{output} holds no scores; is it the output of a scoring job?"
    asked = f"from {query.first or dates[0]} to {query.last or dates[-1]}"
    return f"{output} has no night {asked}; its nights are from {dates[0]} to {dates[-1]}"
