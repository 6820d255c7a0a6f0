"""Vacuum: what nothing refers to goes, everything else stays."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.output.compaction import compact
from pipeline.output.snapshot import Journal, read_journal, write_journal
from pipeline.output.vacuum import find_garbage, vacuum
from pipeline.results import open_results
from pipeline.storage import StorageError, absolute, list_objects, write_object
from tests.outputs import scored, write

RUN = "20260101T000000Z-abcdef"
LATER = datetime.now(UTC) + timedelta(days=2)
MUCH_LATER = datetime.now(UTC) + timedelta(days=100)


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """One night: two runs with rows, one of which was killed, and files of all kinds of garbage."""
    if request.param == "local":
        uri = absolute(str(tmp_path / "out"))
    else:
        uri = f"s3://{request.getfixturevalue('bucket')}/out"
    for i, run_id in enumerate((RUN, f"{RUN}-killed")):
        write(uri, [scored("s3://b/in", i, 0.5)], "2026-01-01", run_id=run_id)
    write_object(f"{uri}/runs/{RUN}/report.json", b"{}")
    for run_id in (RUN, f"{RUN}-killed", "dead", "empty"):
        write_object(f"{uri}/runs/{run_id}/config.json", b"{}")
    write_object(f"{uri}/runs/dead/manifest/part-00000.parquet", b"rows")
    write_object(f"{uri}/runs/empty/report.json", b"{}")
    write_object(f"{uri}/maps/scan_date=2026-01-01/orphan-00000.parquet", b"maps")
    write_object(f"{uri}/scores/scan_date=2026-01-01/.incomplete-0123", b"half")
    write_object(f"{uri}/mine.txt", b"keep")
    write_object(f"{uri}/shard-index/{'a' * 32}.parquet", b"what a shard holds")
    write_object(f"{uri}/shard-index/mine.parquet", b"keep")
    return uri


def names(output: str) -> set[str]:
    return {info.uri.removeprefix(f"{output}/") for page in list_objects(output) for info in page}


GARBAGE = {
    "maps/scan_date=2026-01-01/orphan-00000.parquet",
    "runs/dead/",
    "scores/scan_date=2026-01-01/.incomplete-0123",
}


def found(output: str, now: datetime) -> set[str]:
    return {each.uri.removeprefix(f"{output}/") for each in find_garbage(output, now=now)}


def test_the_list_names_what_nothing_refers_to_and_changes_nothing(output: str) -> None:
    before = names(output)
    assert found(output, LATER) == GARBAGE
    index = f"shard-index/{'a' * 32}.parquet"
    assert found(output, MUCH_LATER) == {*GARBAGE, "runs/empty/", index}
    (orphan,) = (each for each in find_garbage(output, now=LATER) if "orphan" in each.uri)
    assert (orphan.size, orphan.reason) == (4, "no row points to this map shard")
    assert names(output) == before


def test_young_files_stay(output: str) -> None:
    assert found(output, datetime.now(UTC)) == set()
    assert find_garbage(output, grace=timedelta(days=3), now=LATER) == []


def test_vacuum_deletes_what_was_listed_and_nothing_else(output: str) -> None:
    before = names(output)
    listed = find_garbage(output, now=LATER)
    assert vacuum(output, now=LATER) == listed
    gone = {uri.removeprefix(f"{output}/") for each in listed for uri in each.files}
    assert names(output) == before - gone
    assert vacuum(output, now=LATER) == []
    results = open_results(output)
    for _, row in results.scores().iterrows():
        assert results.map(row).shape == (64, 96)


def test_shards_of_before_a_compaction_go_and_their_rows_say_so(output: str) -> None:
    results = open_results(output)
    old = results.scores().iloc[0]
    assert compact(output, before="2026-02-01").files_before == 2
    vacuum(output, now=LATER)
    assert len([name for name in names(output) if name.startswith("maps/")]) == 1
    with pytest.raises(FileNotFoundError, match="read scores"):
        open_results(output).map(old)
    for _, row in results.scores().iterrows():
        assert results.map(row).shape == (64, 96)


def test_vacuum_undoes_a_compaction_that_was_killed(output: str) -> None:
    written = "scan_date=2026-01-01/z-compacted.parquet"
    write_object(f"{output}/scores/{written}", b"anything")
    journal = Journal(generation=1, state="pending", replaced=("x",), replacement=(written,))
    write_journal(f"{output}/scores", journal)
    vacuum(output, now=LATER)
    assert f"scores/{written}" not in names(output)
    assert not read_journal(f"{output}/scores").hidden


def test_a_score_file_that_cannot_be_read_stops_everything(output: str) -> None:
    write_object(f"{output}/scores/scan_date=2026-01-01/bad.parquet", b"not Parquet")
    before = names(output)
    with pytest.raises(Exception, match=r"bad\.parquet"):
        vacuum(output, now=LATER)
    assert names(output) == before


@pytest.mark.parametrize("output", ["local"], indirect=True)
@pytest.mark.parametrize("folder", ["scores", "maps", "runs"])
@pytest.mark.parametrize("error", [PermissionError, NotADirectoryError, TimeoutError])
def test_a_folder_that_cannot_be_seen_stops_everything(
    output: str, folder: str, error: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps were deleted whose score rows it could not see."""
    below = "dead" if folder == "runs" else "scan_date=2026-01-01"
    hidden, scan = f"{output.removeprefix('file://')}/{folder}/{below}", os.scandir

    def scandir(path: Any) -> Any:
        if str(path) == hidden:
            raise error(1, "can't be listed", hidden)
        return scan(path)

    before = names(output)
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        with pytest.raises(StorageError, match=below):
            vacuum(output, now=MUCH_LATER)
    assert names(output) == before


def test_a_lost_lock_keeps_everything(output: str) -> None:
    def lost() -> None:
        raise RuntimeError("lost")

    before = names(output)
    with pytest.raises(RuntimeError, match="lost"):
        vacuum(output, now=LATER, check=lost)
    assert names(output) == before


def test_a_new_output_has_no_garbage(tmp_path: Path) -> None:
    assert find_garbage(absolute(str(tmp_path / "new"))) == []
