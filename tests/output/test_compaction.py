"""Compaction: the same rows and maps in fewer files, whoever reads and whatever is killed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.anomaly_map import render
from pipeline.identity import ModelIdentity
from pipeline.output import compaction, map_shards
from pipeline.output.compaction import compact, plan, recover
from pipeline.output.ledger import read_final_ids
from pipeline.output.snapshot import read_journal
from pipeline.results import open_results
from pipeline.schema import MAP_SCHEMA
from pipeline.storage import absolute, arrow_filesystem, list_objects, write_object
from tests.outputs import age, grid, scored, write

DAY, OPEN_DAY = "2026-01-01", "2026-01-03"
FILES, ROWS = 5, 7
TOTAL = FILES * ROWS


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Two nights of small files, one of them still open."""
    if request.param == "local":
        uri = absolute(str(tmp_path / "out"))
    else:
        uri = f"s3://{request.getfixturevalue('bucket')}/out"
    fill(uri, DAY, 0)
    fill(uri, OPEN_DAY, TOTAL)
    return uri


def fill(output: str, date: str, start: int) -> None:
    """Small files of one night; one row in seven is an error."""
    for f in range(FILES):
        numbers = range(start + f * ROWS, start + (f + 1) * ROWS)
        rows = [scored("s3://b/in", i, None if i % 7 == 3 else i / 1000) for i in numbers]
        write(output, rows, date, run_id=f"20260101T00000{f}Z-{date}")


def table(output: str) -> pd.DataFrame:
    """All rows, ordered, but for where their maps are."""
    frame = open_results(output).scores(latest=False).drop(columns=["map_file", "map_row"])
    return frame.sort_values("image_id", ignore_index=True)


def files(output: str, name: str = "scores") -> list[str]:
    listed = [info.uri for page in list_objects(f"{output}/{name}") for info in page]
    return sorted(uri for uri in listed if uri.endswith(".parquet"))


def check_maps(output: str) -> None:
    """Every scored row's map is its own."""
    results = open_results(output)
    for _, row in results.scores(latest=False).dropna(subset="score").iterrows():
        expected = render(grid(int(row.image_id, 16)), 8)
        np.testing.assert_array_equal(results.map(row, size=8), expected)


def run(output: str, **options: Any) -> compaction.Compaction:
    return compact(output, before=OPEN_DAY, **options)


def test_rows_and_maps_stay_and_closed_partitions_get_one_file(
    output: str, told: list[str]
) -> None:
    before = table(output)
    done = run(output)
    assert (done.files_before, done.files_after, done.rows, done.failures) == (5, 1, TOTAL, [])
    assert len(told) == 1
    pd.testing.assert_frame_equal(table(output), before)
    check_maps(output)
    assert sum(f"scan_date={DAY}" in uri for uri in files(output)) == 1
    assert sum(f"scan_date={OPEN_DAY}" in uri for uri in files(output)) == FILES
    assert len(read_final_ids(output, ModelIdentity("m"), max_megapixels=100)) == 2 * TOTAL


def test_without_maps_rows_point_where_they_pointed(output: str) -> None:
    before, shards = table(output), files(output, "maps")
    done = run(output, maps=False)
    assert (done.files_before, done.files_after, done.failures) == (5, 1, [])
    assert files(output, "maps") == shards
    pd.testing.assert_frame_equal(table(output), before)
    check_maps(output)
    assert run(output).files_before == 0, "nothing is small any more"


def test_plain_pandas_reads_what_compaction_left(output: str) -> None:
    run(output)
    if output.startswith("file://"):
        plain = pd.read_parquet(f"{output.removeprefix('file://')}/scores")
        assert len(plain) == plain.image_id.nunique() == 2 * TOTAL


def test_a_compacted_output_is_left_alone(output: str) -> None:
    run(output)
    before = files(output)
    assert run(output).files_before == 0
    assert files(output) == before


def test_late_rows_of_a_closed_partition_join_in(output: str) -> None:
    run(output)
    fill(output, DAY, 2 * TOTAL)
    assert run(output).files_before == FILES + 1
    assert len(table(output)) == 3 * TOTAL
    check_maps(output)


def test_large_files_stay_as_they_are_and_groups_end_at_the_target(output: str) -> None:
    size = max(info.size for page in list_objects(f"{output}/scores") for info in page)
    assert plan(output, before=OPEN_DAY, target_bytes=size) == []
    groups = plan(output, before=OPEN_DAY, target_bytes=int(2.2 * size))
    assert [len(group.files) for group in groups] == [3, 2]
    assert sum(group.size for group in groups) > 0


def test_maps_roll_over_into_further_shards(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_shards, "ROWS_PER_GROUP", 4)
    monkeypatch.setattr(compaction, "SHARD_BYTES", 1_000)
    run(output)
    frame = open_results(output).scores(scan_date=DAY)
    assert frame.map_file.nunique() > 2
    check_maps(output)
    for name in frame.map_file.dropna().unique():
        filesystem, path = arrow_filesystem(f"{output}/{name}")
        assert (
            pq.ParquetFile(path, filesystem=filesystem).metadata.num_rows
            == (frame.map_file == name).sum()
        )


def test_rows_read_before_still_find_their_maps(output: str) -> None:
    results = open_results(output)
    row = results.scores(scan_date=DAY).iloc[0]
    run(output)
    np.testing.assert_array_equal(results.map(row, 8), render(grid(int(row.image_id, 16)), 8))


def test_a_shard_that_is_not_the_rows_own_is_reported_and_left(output: str) -> None:
    shards = sorted(uri for uri in files(output, "maps") if DAY in uri)
    fill(output, "2026-01-02", 3 * TOTAL)
    before = table(output)
    filesystem, path = arrow_filesystem(shards[1])
    with filesystem.open_input_file(path) as file:
        write_object(shards[0], file.read())
    done = run(output)
    assert done.files_before == FILES  # of the other partition
    (failure,) = done.failures
    assert f"scan_date={DAY}" in failure
    assert "maps of other images" in failure
    pd.testing.assert_frame_equal(table(output), before)


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Ends the compaction at its step-th change of the storage, before or after it."""
    count = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any) -> None:
            nonlocal count
            count += 1
            if count == step and when == "before":
                raise KilledError
            change(*arguments)
            if count == step:
                raise KilledError

        return changed

    for name in ("write_object", "write_journal", "delete_objects"):
        monkeypatch.setattr(compaction, name, counted(getattr(compaction, name)))


def killed(step: int, when: str, action: Callable[[str], Any], output: str) -> bool:
    """Whether the action was killed at that step; it ran to its end otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        kill_at(step, patch, when)
        try:
            action(output)
        except KilledError:
            return True
        return False


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_step_readers_see_every_row_once_and_the_next_run_goes_on(
    tmp_path: Path, when: str
) -> None:
    for step in range(1, 20):
        output = absolute(str(tmp_path / str(step)))
        fill(output, DAY, 0)
        before = table(output)
        if not killed(step, when, run, output):
            break
        pd.testing.assert_frame_equal(table(output), before)
        check_maps(output)
        for again in range(1, 5):  # the recovery is killed, too
            if not killed(again, when, recover, output):
                break
            pd.testing.assert_frame_equal(table(output), before)
        assert not read_journal(f"{output}/scores").hidden
        pd.testing.assert_frame_equal(table(output), before)
        run(output)
        pd.testing.assert_frame_equal(table(output), before)
        check_maps(output)
        assert len(files(output)) == 1
        assert len(read_final_ids(output, ModelIdentity("m"), max_megapixels=100)) == TOTAL
    assert step == 7, "maps, journal, scores, journal, deletes, journal: each of the six was killed"


@pytest.mark.parametrize("failing", ["half", "nothing"])
def test_deleting_only_some_of_the_old_files_doubles_no_row(
    output: str, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    before = table(output)
    delete = compaction.delete_objects

    def some(uris: Any) -> None:
        uris = list(uris)
        delete(uris[: len(uris) // 2] if failing == "half" else [])
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "delete_objects", some)
        patch.setattr(compaction, "recover", lambda output: None)
        with pytest.raises(KilledError):
            run(output)
    pd.testing.assert_frame_equal(table(output), before)
    assert run(output).files_before == 0
    pd.testing.assert_frame_equal(table(output), before)
    assert len(files(output)) == FILES + 1


def test_a_lost_lock_stops_before_the_next_step(output: str) -> None:
    before = table(output)
    for allowed in range(3):
        calls = iter([None] * allowed)

        def check(calls: Any = calls) -> None:
            if next(calls, KilledError) is KilledError:
                raise KilledError

        with pytest.raises(KilledError):
            run(output, check=check)
        pd.testing.assert_frame_equal(table(output), before)
        recover(output)


def test_a_reader_beside_compaction_never_sees_a_row_twice_or_not_at_all(output: str) -> None:
    seen: list[tuple[int, int, int]] = []
    errors: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                frame = open_results(output).scores(latest=False, columns=["image_id"])
                done = len(read_final_ids(output, ModelIdentity("m"), max_megapixels=100))
                seen.append((len(frame), frame.image_id.nunique(), done))
        except BaseException as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for target in (10_000, 40_000, 5_000_000):  # each merges what the one before left
            compact(output, before="2026-02-01", target_bytes=target)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not errors
    assert set(seen) == {(2 * TOTAL, 2 * TOTAL, 2 * TOTAL)}
    assert len(files(output)) == 2


def test_old_shards_without_embeddings_join_with_new_ones(tmp_path: Path) -> None:
    """And rows of before there were references with those that have some."""
    output = f"file://{tmp_path}/out"
    write(output, [scored("s3://b/in", i, i / 1000) for i in range(6)], DAY, run_id="1")
    age(output)
    vectors = {f"{i:032x}": np.array([i, 1], np.int16) for i in range(6, 12, 2)}
    rows = [
        scored("s3://b/in", i, i / 1000)
        | {"embedding_q15": vectors.get(f"{i:032x}"), "score_logit": i}
        for i in range(6, 12)
    ]
    write(output, rows, DAY, run_id="2", references={"bolt": "1a"})
    before = table(output)
    assert run(output).files_before == 2
    pd.testing.assert_frame_equal(table(output), before)
    check_maps(output)
    frame = open_results(output).scores(latest=False)
    assert set(frame[frame.reference_set == "1a"].model) == {"m+refs-1a"}
    assert set(frame.score_logit.dropna()) == set(range(6, 12))
    (shard,) = frame.map_file.unique()
    found = pq.read_table(arrow_filesystem(f"{output}/{shard}")[1], partitioning=None)
    assert found.schema.equals(MAP_SCHEMA)
    for kept in found.to_pylist():
        expected = vectors.get(kept["image_id"])
        assert kept["embedding_q15"] == (None if expected is None else expected.tolist())


def test_maps_that_not_every_reader_opens_are_rewritten_also_of_a_single_file(
    tmp_path: Path,
) -> None:
    output = f"file://{tmp_path}/out"
    write(output, [scored("s3://b/in", i, i / 1000) for i in range(6)], DAY)
    assert plan(output, before=OPEN_DAY) == []
    age(output)
    assert plan(output, before=OPEN_DAY, maps=False) == []
    before = table(output)
    assert (run(output).files_before, len(files(output))) == (1, 1)
    pd.testing.assert_frame_equal(table(output), before)
    check_maps(output)
    for shard in open_results(output).scores().map_file.unique():
        found = pq.read_schema(arrow_filesystem(f"{output}/{shard}")[1])
        assert found.equals(MAP_SCHEMA)
    assert plan(output, before=OPEN_DAY) == []
