"""What is not asked for is not read: files, columns and row groups, counted in bytes."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.output.rows import HELD_BY
from pipeline.results import NothingSelectedWarning, Results, open_results
from tests import outputs
from tests.results.tables import CATEGORIES, GROUP, ROWS, CountingFileSystem, column_bytes
from tests.results.tables import write_night as write

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
FOOTER = 70_000  # Arrow reads the last 64 KiB at once; pages have headers


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three nights of 20,000 rows."""
    folder = tmp_path_factory.mktemp("nights")
    for seed, day in enumerate(DAYS):
        write(folder, day, seed)
    return folder


@pytest.fixture
def results(output: Path) -> Iterator[Results]:
    """The nights, with a count of the bytes read."""
    CountingFileSystem.read.clear()
    yield open_results(f"counting://{output}")
    CountingFileSystem.read.clear()


def opened() -> set[str]:
    """Dates of the score files that were opened."""
    return {Path(path).parent.name.removeprefix("scan_date=") for path in CountingFileSystem.read}


def file_of(output: Path, day: str) -> Path:
    return output / "scores" / f"scan_date={day}" / "x.parquet"


@pytest.mark.parametrize(
    ("asked", "days"),
    [
        ("2026-01-02", {"2026-01-02"}),
        (datetime.date(2026, 1, 2), {"2026-01-02"}),
        (["2026-01-01", "2026-01-03"], {"2026-01-01", "2026-01-03"}),
        (np.array(["2026-01-01", "2026-01-03"]), {"2026-01-01", "2026-01-03"}),
        (pd.Series(pd.to_datetime(["2026-01-01"])), {"2026-01-01"}),
        ([], set()),
        (("2026-01-02", "2026-01-03"), {"2026-01-02", "2026-01-03"}),
        (("2026-01-02", None), {"2026-01-02", "2026-01-03"}),
        ((None, datetime.date(2026, 1, 1)), {"2026-01-01"}),
        (None, set(DAYS)),
        ("1999-01-01", set()),
    ],
)
def test_only_the_files_of_the_dates_are_opened(
    results: Results, asked: object, days: set[str]
) -> None:
    frame = results.scores(scan_date=asked, columns=["scan_date"], latest=False)  # type: ignore[arg-type]
    assert opened() == days == set(frame.scan_date)
    assert len(frame) == ROWS * len(days)


def test_single_dates_are_not_found_by_listing_the_others(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = []
    monkeypatch.setattr(
        "pipeline.output.snapshot.list_objects", lambda folder: listed.append(folder) or iter(())
    )
    with pytest.raises(FileNotFoundError):
        results.scores(scan_date=["2026-01-02"])
    assert listed == [f"{results.uri}/scores/scan_date=2026-01-02", f"{results.uri}/scores"]


@pytest.mark.parametrize("asked", ["2026-1-2", "20260102", "yesterday", ["2026-01-01", ""], [None]])
def test_what_is_no_date_is_refused(results: Results, asked: str) -> None:
    with pytest.raises(ValueError, match="is not YYYY-MM-DD"):
        results.scores(scan_date=asked)


def test_a_range_that_ends_before_it_begins_gave_an_empty_frame(results: Results) -> None:
    with pytest.raises(ValueError, match=r"\(from, to\), and 2026-01-03 is after 2026-01-01"):
        results.scores(scan_date=(DAYS[2], DAYS[0]))
    assert len(results.scores(scan_date=(DAYS[2], DAYS[2]), columns=[])) == ROWS


def test_only_the_columns_asked_for_are_read(results: Results, output: Path) -> None:
    results.scores(scan_date=DAYS[0], columns=["score"], latest=False)
    file = file_of(output, DAYS[0])
    (read,) = CountingFileSystem.read.values()
    assert read <= column_bytes(file, {"score"}, {0, 1, 2, 3}) + FOOTER
    assert read < file.stat().st_size / 5


def test_row_groups_below_the_score_are_not_read(results: Results, output: Path) -> None:
    columns = ["uri", "etag", "score"]
    frame = results.scores(scan_date=DAYS[0], columns=columns, latest=False, min_score=0.76)
    assert len(frame) == 0.24 * ROWS
    (read,) = CountingFileSystem.read.values()
    assert read <= column_bytes(file_of(output, DAYS[0]), {*columns}, {3}) + FOOTER


def test_of_the_newest_only_keys_are_read_below_the_score(results: Results, output: Path) -> None:
    columns = ["etag", "score"]
    frame = results.scores(scan_date=DAYS[0], columns=columns, min_score=0.76)
    assert len(frame) == 0.24 * ROWS
    (read,) = CountingFileSystem.read.values()
    file = file_of(output, DAYS[0])
    wide = column_bytes(file, {*columns, *HELD_BY}, {3})
    assert read <= wide + column_bytes(file, {*HELD_BY, "score"}, {0, 1, 2, 3}) + 2 * FOOTER
    assert column_bytes(file, {"etag"}, {0, 1, 2}) > 2 * FOOTER  # so the bound says something


@pytest.mark.parametrize("category", ["cable", ["bolt", "cable"]])
def test_row_groups_without_the_category_are_not_read(
    results: Results, output: Path, category: str | list[str]
) -> None:
    columns = ["uri", "etag", "category", "score"]
    frame = results.scores(scan_date=DAYS[0], columns=columns, latest=False, category=category)
    groups = {i for i, name in enumerate(CATEGORIES) if name in category}
    assert set(frame.category) == {CATEGORIES[i] for i in groups}
    assert len(frame) == GROUP * len(groups)
    (read,) = CountingFileSystem.read.values()
    assert read <= column_bytes(file_of(output, DAYS[0]), {*columns}, groups) + FOOTER


def test_a_category_that_is_nowhere_gave_no_rows_without_a_word(results: Results) -> None:
    there = r"no row has the category 'Nuts'; the table has 'nut', .*'bolt'"
    with pytest.warns(NothingSelectedWarning, match=there):
        assert len(results.scores(category="Nuts")) == 0
    with pytest.warns(NothingSelectedWarning, match="'zipper'") as told:
        assert len(results.top(1, category=["zipper", "nut"])) == 1
    assert {each.filename for each in told} == {__file__}, "the line that asked"
    with warnings.catch_warnings():  # it is the date and the score that leave nothing
        warnings.simplefilter("error")
        assert results.scores(category="nut", scan_date="1999-01-01").empty
        assert results.scores(category="nut", min_score=2, columns=["uri"]).empty


def test_of_very_many_categories_the_nearest_are_named(tmp_path: Path) -> None:
    rows = [outputs.scored("s3://b", i, 0.5) | {"category": f"part {i}"} for i in range(40)]
    rows[7]["category"] = "metal_nut\x1b[31m"
    outputs.write(str(tmp_path), rows, "2026-01-01")
    with pytest.warns(NothingSelectedWarning) as told:
        open_results(str(tmp_path)).scores(category="metal nut")
    (warning,) = told
    assert "the table has 'metal_nut\\x1b[31m', 'part " in str(warning.message)
    assert str(warning.message).endswith(" and 35 more")


@pytest.mark.parametrize("nothing", [{"category": []}, {"scan_date": []}, {"category": ()}])
def test_an_empty_list_asks_for_nothing(results: Results, nothing: dict[str, list[str]]) -> None:
    """No category, the empty answer of another query, gave the rows of all."""
    asked = {"columns": ["uri", "category", "score", "scored_at", "scan_date"], **nothing}
    wanted = results.scores(scan_date=DAYS[0], columns=asked["columns"]).dtypes.astype(str)
    for found in (
        results.scores(**asked),  # type: ignore[arg-type]
        results.scores(min_score=0.5, **asked),  # type: ignore[arg-type]
        results.top(1, **asked),  # type: ignore[arg-type]
    ):
        assert len(found) == 0
        pd.testing.assert_series_equal(found.dtypes.astype(str), wanted)


def test_names_come_in_any_sequence_or_one_alone(results: Results) -> None:
    for columns in (["uri", "score"], ("uri", "score"), np.array(["uri", "score"])):
        asked: dict[str, Any] = {"scan_date": DAYS[0], "columns": columns}
        assert list(results.scores(**asked).columns) == ["uri", "score"]
        assert list(results.top(1, **asked).columns) == ["uri", "score"]
    assert list(results.scores(scan_date=DAYS[0], columns="uri").columns) == ["uri"]
    assert list(results.scores(scan_date=DAYS[0], columns=[]).columns) == []
    for category in ("nut", ("nut",), pd.Series(["nut"]), iter(["nut"])):
        found = results.scores(scan_date=DAYS[0], category=category)  # type: ignore[arg-type]
        assert set(found.category) == {"nut"}


def test_prefix_and_model_select_rows(results: Results) -> None:
    frame = results.scores(prefix="s3://b/in/2026-01-02/", columns=["scan_date"])
    assert set(frame.scan_date) == {"2026-01-02"}
    assert len(results.scores(model="another", columns=["score"])) == 0
    assert len(results.scores(model="m", columns=["score"], latest=False)) == 3 * ROWS


def test_a_relative_prefix_is_a_local_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = f"file://{tmp_path}/photos"
    kinds = ("good", "good1", "bad")
    rows = [outputs.scored(f"{folder}/{kind}", i, 0.5) for i, kind in enumerate(kinds)]
    outputs.write(str(tmp_path / "out"), rows, "2026-01-01")
    results = open_results(str(tmp_path / "out"))
    assert len(results.scores(prefix="photos/good")) == 2
    assert len(results.scores(prefix="photos/good/")) == 1
    assert len(results.top(5, prefix="photos/good/")) == 1


def test_a_prefix_of_nothing_is_named_beside_a_uri_that_there_is(results: Results) -> None:
    with pytest.warns(NothingSelectedWarning, match=r"s3://b/im/;.* has is s3://b/in/2026-"):
        assert results.scores(prefix="s3://b/im/").empty
    with pytest.warns(NothingSelectedWarning, match="file:///"):
        assert results.top(3, prefix="in/2026-01-02").empty
    with pytest.raises(ValueError, match="prefix is empty"):
        results.scores(prefix="")
    with warnings.catch_warnings():  # it is the score that leaves nothing
        warnings.simplefilter("error")
        assert results.scores(prefix="s3://b/in/", min_score=2).empty


def test_a_column_that_does_not_exist_is_named(results: Results) -> None:
    with pytest.raises(ValueError, match="no column scores; it has image_id, uri"):
        results.scores(columns=["scores"])
