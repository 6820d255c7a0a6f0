"""The newest rows and the highest ones, against the same done on the whole table in pandas."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.results import Results, best, open_results, table
from tests.outputs import scored, write
from tests.results.tables import GROUP, write_night

Histories = Callable[[int], tuple[Results, pd.DataFrame]]
LABELS = ("category", "model", "error", "run_id")  # whose categoricals differ in what is unused


def history(output: str, seed: int) -> None:
    """Five nights with rescored, replaced, failed and retried images of few distinct scores."""
    rng = np.random.default_rng(seed)
    for night in range(1, 6):
        rows = []
        for i in rng.choice(40, 25, replace=False):
            failed = rng.random() < 0.2
            row = scored("s3://b/in", int(i), None if failed else float(rng.integers(0, 12)) / 12)
            replaced = int(rng.random() < 0.2) * (night << 64)
            row["image_id"] = f"{int(i) + replaced:032x}"
            row["map_max"] = row["score"] and float(rng.random())
            if failed:
                row["error"] = rng.choice(["truncated", "fetch_failed", "no_category"])
                row["category"] = None if row["error"] == "no_category" else row["category"]
            rows.append(row)
        write(output, rows, f"2026-01-{night:02d}", model=str(rng.choice(["m", "n"])))


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Histories:
    """The history of a seed and its whole table, once it is asked for; tests only read it."""

    @cache
    def of(seed: int) -> tuple[Results, pd.DataFrame]:
        folder = str(tmp_path_factory.mktemp("history"))
        history(folder, seed)
        results = open_results(folder)
        return results, results.scores()

    return of


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("room", [-1, 2_000, table.OTHERS_BYTES])
def test_of_a_category_others_are_kept_or_read_again(
    histories: Histories, seed: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "OTHERS_BYTES", room)
    results, _ = histories(seed)
    for asked in (
        {"category": "bolt"},
        {"category": ["nut", "bolt"], "scan_date": ("2026-01-02", None)},
        {"category": "nut", "model": "n"},
        {"category": "nut", "prefix": "s3://b/in/1"},
    ):
        every = results.scores(**asked)  # type: ignore[arg-type]
        for least in (0.0, 0.5, 1.0):
            found = results.scores(min_score=least, **asked)  # type: ignore[arg-type]
            _assert_same(found, every[every.score >= np.float32(least)])


@pytest.mark.parametrize("seed", range(8))
def test_a_minimum_gives_the_rows_that_reach_it(histories: Histories, seed: int) -> None:
    results, everything = histories(seed)
    for least in (0.0, 0.5, 11 / 12, 1.0):
        expected = everything[everything.score >= np.float32(least)]
        found = results.scores(min_score=least)
        _assert_same(found, expected)
    dates = ("2026-01-02", "2026-01-04")
    inside = results.scores(scan_date=dates)
    found = results.scores(scan_date=dates, min_score=0.5, columns=["uri", "score"])
    _assert_same(found, inside.loc[inside.score >= 0.5, ["uri", "score"]])


@pytest.mark.parametrize("by", ["score", "map_max"])
@pytest.mark.parametrize("per_category", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_the_top_is_that_of_the_whole_table(
    histories: Histories,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    per_category: bool,
    by: str,
) -> None:
    monkeypatch.setattr(best, "WAITING_ROWS", 7)
    results, everything = histories(seed)
    ranked = everything.dropna(subset=[by])
    ranked = ranked.sort_values([by, "image_id"], ascending=[False, True])
    for n in (1, 3, 100):
        groups = ranked.category.astype(str) if per_category else ranked.image_id.str[:0]
        expected = ranked.groupby(groups).head(n)
        found = results.top(n, by=by, per_category=per_category)  # type: ignore[arg-type]
        assert list(found[by]) == list(expected[by])
        _assert_same(found, expected)


def test_the_top_of_a_large_table_is_found_in_small_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever passes by, only a row group and a few more rows are ever ranked."""
    write_night(tmp_path, "2026-01-01")
    longest = 0
    sort_indices = best.pc.sort_indices

    def watched(table: pa.Table, keys: list[tuple[str, str]]) -> pa.Array:
        nonlocal longest
        longest = max(longest, len(table))
        return sort_indices(table, keys)

    monkeypatch.setattr(best.pc, "sort_indices", watched)
    top = open_results(str(tmp_path)).top(5, columns=["category", "score"])
    assert longest < GROUP + 100
    assert list(top.columns) == ["category", "score"]
    assert dict(top.groupby("category", observed=True).size()) == dict.fromkeys(
        ("bolt", "cable", "nut", "screw"), 5
    )
    assert top.score.is_monotonic_decreasing
    assert top.score.iloc[0] == np.float32(19_999 / 20_000)


def test_the_top_keeps_dates_and_categories_apart(histories: Histories) -> None:
    top = histories(0)[0].top(2, scan_date="2026-01-03", category="nut")
    assert set(top.scan_date) == {"2026-01-03"}
    assert set(top.category) == {"nut"}


def test_the_top_of_nothing_is_empty_and_a_bad_one_is_refused(tmp_path: Path) -> None:
    write(str(tmp_path), [scored("s3://b/in", 0, None)], "2026-01-01")
    results = open_results(str(tmp_path))
    assert list(results.top(3).columns) == list(results.scores().columns)
    assert len(results.top(3)) == 0
    with pytest.raises(ValueError, match="n is 0"):
        results.top(0)
    with pytest.raises(ValueError, match="by is 'size'; known are score, map_max"):
        results.top(1, by="size")  # type: ignore[arg-type]


def _assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Equal rows; whole numbers are floats in a frame that has nulls elsewhere."""
    ordered = [
        frame.astype({name: str for name in LABELS if name in frame}).sort_values(
            [name for name in ("uri", "model", "category", "score") if name in frame],
            ignore_index=True,
        )
        for frame in (found, expected)
    ]
    pd.testing.assert_frame_equal(*ordered, check_dtype=False)
