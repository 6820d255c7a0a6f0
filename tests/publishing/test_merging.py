"""What a night does to a table is what all nights at once would have made of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.output.rows import rows_that_hold
from pipeline.publishing.merging import Merge, merge
from pipeline.publishing.table import KEYS, SCHEMA, may_hold, of_images
from pipeline.schema import SCORE_SCHEMA, image_id

START = datetime(2026, 1, 1, tzinfo=UTC)
Row = dict[str, object]


def row(uri: str, etag: str, model: str, category: str | None, error: str | None, at: float) -> Row:
    identity = image_id(uri, etag, model, category or "").hex()
    return {
        "image_id": identity,
        "uri": uri,
        "etag": etag,
        "model": model,
        "category": category,
        "error": error,
        "score": None if error else 0.5,
        "scored_at": START + timedelta(seconds=at),
    }


def write(folder: str, number: int, rows: list[Row]) -> str:
    """A score file; returns its URI."""
    date = f"2026-01-{number // 2 + 1:02d}"
    uri = f"{folder}/scan_date={date}/run-{number:05d}.parquet"
    path = Path(uri.removeprefix("file://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCORE_SCHEMA), path)
    return uri


class Held:
    """A table in memory, changed by merges alone."""

    def __init__(self) -> None:
        self.rows = SCHEMA.empty_table()

    def rows_of(self, uris: pa.Array) -> list[pa.Table]:
        return [of_images(self.rows, uris).select(KEYS.names)]

    def apply(self, change: Merge) -> None:
        gone = pc.is_in(self.rows["image_id"], change.superseded["image_id"])
        added = list(change.rows())
        assert sum(map(len, added)) == change.added
        assert pc.sum(gone).as_py() in (len(change.superseded), None)
        self.rows = pa.concat_tables([self.rows.filter(pc.invert(gone)), *added])

    def ids(self) -> list[tuple[str, datetime]]:
        return _ids(self.rows.select(["image_id", "scored_at"]).to_pylist())


def _ids(rows: Iterable[dict[str, object]]) -> list[tuple[str, datetime]]:
    return sorted((str(each["image_id"]), each["scored_at"]) for each in rows)  # type: ignore[misc]


def expected(rows: list[Row]) -> list[tuple[str, datetime]]:
    frame = pa.Table.from_pylist(rows, schema=SCORE_SCHEMA).to_pandas()
    return _ids(rows_that_hold(frame)[["image_id", "scored_at"]].to_dict("records"))


def replay(path: Path, nights: list[list[Row]]) -> Held:
    """Publishes one file after the other, and compares with the rule on all rows so far."""
    table, files, history = Held(), list[str](), list[Row]()
    for number, rows in enumerate(nights):
        files.append(write(f"file://{path}", number, rows))
        history += rows
        table.apply(merge(f"file://{path}", files, files[-1:], table.rows_of))
        assert table.ids() == expected(history)
    return table


def histories(seed: int, *, clocks_agree: bool = True) -> list[list[Row]]:
    """The nights of 400 objects, with up to six rows each of every kind there is."""
    random = Random(seed)
    nights: list[list[Row]] = [[], [], [], []]
    for number in range(400):
        for night in sorted(random.choices(range(len(nights)), k=random.randint(1, 6))):
            made = row(
                f"s3://b/{number}",
                random.choice(["e1", "e2"]),
                random.choice(["m", "m+refs-1", "m+refs-2", "n"][: random.randint(1, 4)]),
                random.choice(["nut", "nut", "bolt", None]),
                random.choice([None, None, "truncated", "fetch_failed", "out_of_memory"]),
                sum(map(len, nights)) if clocks_agree else random.random() * 1e6,
            )
            nights[night].append(made)
    for night, rows in enumerate(nights):
        for each in rows if clocks_agree else []:
            each["scored_at"] = each["scored_at"] + timedelta(days=night)  # type: ignore[operator]
    return nights


@pytest.mark.parametrize("clocks_agree", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_night_by_night_gives_what_all_nights_at_once_give(
    tmp_path: Path, seed: int, clocks_agree: bool
) -> None:
    """Whatever came before, also if the machines' clocks disagree on the order."""
    nights = histories(seed, clocks_agree=clocks_agree)
    table = replay(tmp_path, nights)
    assert 400 <= len(table.rows) < sum(map(len, nights))


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_come_again_replace_themselves(tmp_path: Path, seed: int) -> None:
    """As after a compaction that gave them other maps, here with rows that are new."""
    folder, table, nights = f"file://{tmp_path}", Held(), histories(seed)
    first = write(folder, 0, nights[0])
    table.apply(merge(folder, [first], [first], table.rows_of))
    history = [each for rows in nights for each in rows]
    again = write(folder, 2, [each | {"map_row": 7} for each in history])
    table.apply(merge(folder, [again], [again], table.rows_of))
    assert table.ids() == expected(history)
    assert pc.unique(table.rows["map_row"]).to_pylist() == [7], "no row of before is left"


def test_a_score_under_another_category_brings_back_what_an_error_hid(tmp_path: Path) -> None:
    """The table has the error alone; that it hid a score only the history tells."""
    nights = [
        [row("s3://b/1", "e1", "m", "nut", None, 0)],
        [row("s3://b/1", "e2", "m", "nut", "truncated", 1)],
        [row("s3://b/1", "e2", "m", "bolt", None, 2)],
    ]
    table = replay(tmp_path, nights)
    assert sorted(table.rows["category"].to_pylist()) == ["bolt", "nut"]


def test_a_file_is_left_alone_if_no_image_lies_between_its_names() -> None:
    uris = pa.array(["s3://b/b", "s3://b/d"])
    assert may_hold(uris, "s3://b/a", "s3://b/c")
    assert may_hold(uris, "s3://b/d", "s3://b/d")
    assert not may_hold(uris, "s3://b/c", "s3://b/c9")
    assert not may_hold(uris, "s3://b/e", "s3://b/f")
    assert not may_hold(uris, "s3://a", "s3://b/a")
    assert may_hold(uris, None, "s3://b/a"), "nothing is known of its least"
