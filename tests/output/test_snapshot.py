"""Which score files count together, before, during and after a compaction."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.output import snapshot
from pipeline.output.snapshot import (
    FORMER,
    JOURNAL,
    Journal,
    read_journal,
    read_scores,
    score_dataset,
    score_files,
    write_journal,
)
from pipeline.schema import SCORE_SCHEMA
from pipeline.storage import (
    ObjectInfo,
    StorageError,
    absolute,
    delete_objects,
    list_objects,
    stat,
    write_object,
)

OLD, NEW = "scan_date=2026-01-01/1.parquet", "scan_date=2026-01-01/z.parquet"


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A score folder with an old and a new file."""
    if request.param == "local":
        uri = absolute(str(tmp_path / "scores"))
    else:
        uri = f"s3://{request.getfixturevalue('bucket')}/scores"
    for name in (OLD, NEW):
        write_object(f"{uri}/{name}", b"x")
    return uri


def step(generation: int, state: str) -> Journal:
    assert state in ("pending", "committed")
    return Journal(
        generation=generation,
        state="pending" if state == "pending" else "committed",
        replaced=(OLD,),
        replacement=(NEW,),
    )


def test_the_journal_decides_which_files_count(folder: str) -> None:
    assert score_files(folder) == [f"{folder}/{OLD}", f"{folder}/{NEW}"]
    write_journal(folder, step(1, "pending"))
    assert score_files(folder) == [f"{folder}/{OLD}"]
    write_journal(folder, step(2, "committed"))
    assert score_files(folder) == [f"{folder}/{NEW}"]
    write_journal(folder, Journal(generation=3))
    assert len(score_files(folder)) == 2


def test_a_listing_that_a_compaction_disturbs_is_made_again(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete_objects([f"{folder}/{NEW}"])

    def disturbed(uri: str) -> list[list[ObjectInfo]]:
        pages = list(list_objects(uri))
        if not read_journal(folder).generation:  # the new file comes when the listing is past it
            write_object(f"{folder}/{NEW}", b"x")
            write_journal(folder, step(1, "committed"))
        return pages

    monkeypatch.setattr(snapshot, "list_objects", disturbed)
    assert score_files(folder) == [f"{folder}/{NEW}"]


def test_a_read_that_a_compaction_disturbs_begins_again(folder: str) -> None:
    write_journal(folder, step(1, "pending"))
    calls: list[list[str]] = []

    def read(files: list[str]) -> int:
        calls.append(files)
        if len(calls) == 1:
            write_journal(folder, step(2, "committed"))
            delete_objects([f"{folder}/{OLD}"])
            raise FileNotFoundError(files[0])
        return len(files)

    assert read_scores(folder, read) == 1
    assert calls == [[f"{folder}/{OLD}"], [f"{folder}/{NEW}"]]


def test_an_error_that_no_compaction_explains_is_raised_at_once(folder: str) -> None:
    calls = 0

    def read(files: list[str]) -> None:
        nonlocal calls
        calls += 1
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        read_scores(folder, read)
    assert calls == 1


def test_a_table_that_never_holds_still_is_an_error(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = 0

    def read(files: list[str]) -> None:
        nonlocal generation
        generation += 1
        write_journal(folder, Journal(generation=generation))
        raise FileNotFoundError("gone")

    monkeypatch.setattr(snapshot, "ATTEMPTS", 3)
    with pytest.raises(StorageError, match="changed during each of 3 attempts"):
        read_scores(folder, read)
    assert generation == 3


def test_the_journal_lies_beside_the_table_also_where_it_lay_inside(folder: str) -> None:
    """Polars, for one, takes every file inside for one of rows."""
    beside, inside = f"{folder.removesuffix('/scores')}/{JOURNAL}", f"{folder}/{FORMER}"
    former = step(7, "committed")
    write_object(inside, json.dumps(asdict(former)).encode())
    assert read_journal(folder) == former
    write_journal(folder, Journal(generation=8))
    assert read_journal(folder) == Journal(generation=8)
    assert stat(beside).size
    with pytest.raises(StorageError):
        stat(inside)


@pytest.mark.parametrize("text", [b"not JSON", b"{}", b"[]", b'{"replaced": 1}'])
def test_a_damaged_journal_is_named(folder: str, text: bytes) -> None:
    write_object(f"{folder.removesuffix('/scores')}/{JOURNAL}", text)
    with pytest.raises(ValueError, match=rf"{JOURNAL} is damaged"):
        read_journal(folder)


def test_a_folder_without_scores_says_so(tmp_path: Path) -> None:
    folder = absolute(str(tmp_path / "scores"))
    assert score_files(folder) == []
    with pytest.raises(FileNotFoundError, match="holds no scores"):
        read_scores(folder, lambda files: score_dataset(folder, files, SCORE_SCHEMA))
