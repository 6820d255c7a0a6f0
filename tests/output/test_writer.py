"""Result files: map shards before the rows that point into them, readable with pandas."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from pipeline.anomaly_map import Q8, quantize
from pipeline.identity import ModelIdentity
from pipeline.output import writer as writer_module
from pipeline.output.writer import ResultWriter
from pipeline.schema import MAP_SCHEMA, SCORE_SCHEMA, ErrorCode, scored_schema
from pipeline.storage import StorageError, arrow_filesystem, write_object

GRID = 37  # side of the grid at 518 px
MODIFIED = datetime(2025, 1, 30, 12, tzinfo=UTC)
POOL = pa.proxy_memory_pool(pa.default_memory_pool())  # must outlive what is taken from it


def result_writer(output: str, **changes: Any) -> ResultWriter:
    settings = {"scan_date": "2025-01-31", "run_id": "run-1", "identity": ModelIdentity("model-1")}
    return ResultWriter(
        output=output, **{**settings, "write_maps": True, "interval_s": 3600.0, **changes}
    )


def scored(names: list[str], side: int = 2) -> pa.Table:
    """Rows as the scorer gives them; a name that starts with "bad" ended in an error."""
    rows = []
    for name in names:
        row: dict[str, Any] = {
            "image_id": name,
            "uri": f"s3://bucket/{name}.png",
            "etag": "e",
            "category": "bottle",
            "size": 10,
            "last_modified": MODIFIED,
        }
        if name.startswith("bad"):
            row |= {"error": ErrorCode.TRUNCATED.value, "error_message": "cut short"}
        else:
            row |= {"score": 0.5, "map_max": 0.75, "anomalous_area": 0.25}
            row |= {"box_x0": 1, "box_y0": 2, "box_x1": 3, "box_y1": 4, "width": 8, "height": 6}
            row |= {"logit_grid_q8": grid(name, side), "grid_height": side, "grid_width": side}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=scored_schema())


def grid(name: str, side: int) -> NDArray[np.int16]:
    """A random grid, which no compression shortens much, known by its name."""
    random = np.random.default_rng(list(name.encode()))
    return quantize(random.normal(size=side * side), Q8)


def files(output: str) -> list[str]:
    folder = Path(output.removeprefix("file://"))
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def read(output: str, name: str) -> pa.Table:
    filesystem, path = arrow_filesystem(f"{output}/{name}")
    return pq.ParquetFile(filesystem.open_input_file(path)).read()


def assert_rows_point_at_their_maps(output: str, frame: pd.DataFrame, side: int = 2) -> None:
    for row in frame[frame.error.isna()].itertuples():
        shard = read(output, row.map_file)
        assert shard.schema.equals(MAP_SCHEMA)
        found = shard.slice(int(row.map_row), 1).to_pylist()[0]
        assert found["image_id"] == row.image_id
        np.testing.assert_array_equal(found["logit_grid_q8"], grid(row.image_id, side))
        assert (found["grid_height"], found["grid_width"]) == (side, side)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URIs that the writer writes, in order."""
    uris: list[str] = []

    def record(uri: str, data: bytes) -> None:
        write_object(uri, data)
        uris.append(uri)

    monkeypatch.setattr(writer_module, "write_object", record)
    return uris


def test_maps_are_written_before_the_scores_that_point_to_them(
    tmp_path: Path, written: list[str]
) -> None:
    writer = result_writer(str(tmp_path))
    for name in ("a", "b"):
        writer.add(scored([name]))
        writer.commit()
    partition = "scan_date=2025-01-31"
    assert written == [
        f"{tmp_path}/{kind}/{partition}/run-1-{number}.parquet"
        for number in ("00000", "00001")
        for kind in ("maps", "scores")
    ]


def test_each_row_has_the_model_and_references_of_its_category(tmp_path: Path) -> None:
    identity = ModelIdentity("m", {"bottle": "1a"})
    writer = result_writer(str(tmp_path), identity=identity)
    rows = scored(["a", "bad 1", "b", "bad 2"]).to_pylist()
    rows[2] |= {"category": "cable", "nearest_reference": None}
    rows[3]["category"] = None
    rows[0] |= {"score_logit": 1.5, "zero_shot_score": 0.25, "reference_score": 0.75}
    rows[0] |= {"nearest_reference": "s3://good/1.png"}
    writer.add(pa.Table.from_pylist(rows, schema=scored_schema()))
    writer.commit()
    frame = pd.read_parquet(tmp_path / "scores").astype(object)
    assert frame.model.tolist() == ["m+refs-1a", "m+refs-1a", "m", "m"]
    assert frame.reference_set.fillna("").tolist() == ["1a", "1a", "", ""]
    assert frame.nearest_reference.fillna("").tolist() == ["s3://good/1.png", "", "", ""]
    known = ["score_logit", "zero_shot_score", "reference_score"]
    assert frame.loc[0, known].tolist() == [1.5, 0.25, 0.75]
    assert frame.loc[1:, known].isna().all(axis=None)


def test_an_embedding_goes_beside_its_map(tmp_path: Path) -> None:
    rows = scored(["a", "bad", "b"]).to_pylist()
    rows[0]["embedding_q15"] = np.array([19661, 26214], np.int16)
    writer = result_writer(str(tmp_path))
    writer.add(pa.Table.from_pylist(rows, schema=scored_schema()))
    writer.commit()
    shard = read(str(tmp_path), "maps/scan_date=2025-01-31/run-1-00000.parquet")
    assert shard["embedding_q15"].to_pylist() == [[19661, 26214], None]


def test_every_row_points_at_its_map_and_errors_at_none(tmp_path: Path) -> None:
    writer = result_writer(str(tmp_path))
    writer.add(scored(["bad 1", "a", "b", "bad 2"]))
    writer.add(scored(["c", "bad 3"]))
    writer.commit()
    writer.add(scored(["bad 4", "d"]))
    writer.commit()
    frame = pd.read_parquet(tmp_path / "scores")
    assert frame.image_id.tolist() == ["bad 1", "a", "b", "bad 2", "c", "bad 3", "bad 4", "d"]
    assert_rows_point_at_their_maps(str(tmp_path), frame)
    failed = frame[frame.error.notna()]
    assert len(failed) == 4
    assert failed[["map_file", "map_row", "score", "map_max", "box_x0"]].isna().all(axis=None)
    assert writer.num_committed == 8
    sizes = {name: (tmp_path / name).stat().st_size for name in files(str(tmp_path))}
    assert writer.map_bytes == sum(n for name, n in sizes.items() if name.startswith("maps/"))
    assert writer.score_bytes == sum(n for name, n in sizes.items() if name.startswith("scores/"))


def test_results_on_s3_are_read_the_same_way(bucket: str) -> None:
    output = f"s3://{bucket}/out put"
    writer = result_writer(output)
    writer.add(scored(["a", "bad", "b"]))
    writer.commit()
    frame = pd.read_parquet(f"{output}/scores")
    assert frame.image_id.tolist() == ["a", "bad", "b"]
    assert_rows_point_at_their_maps(output, frame)


def test_a_failing_score_write_leaves_no_row_and_is_made_good_by_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_scores(uri: str, data: bytes) -> None:
        if "/scores/" in uri:
            raise StorageError(ErrorCode.FETCH_FAILED, "the disk is full")
        write_object(uri, data)

    writer = result_writer(str(tmp_path))
    writer.add(scored(["a", "bad", "b"]))
    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "write_object", no_scores)
        with pytest.raises(StorageError, match="the disk is full"):
            writer.commit()
    shard = "maps/scan_date=2025-01-31/run-1-00000.parquet"
    assert files(str(tmp_path)) == [shard]
    assert writer.num_committed == 0
    writer.commit()
    assert files(str(tmp_path)) == [shard, shard.replace("maps", "scores")]
    assert_rows_point_at_their_maps(str(tmp_path), pd.read_parquet(tmp_path / "scores"))
    assert writer.num_committed == 3
    assert writer.map_bytes == (tmp_path / shard).stat().st_size


def test_pandas_reads_the_scores_with_proper_types(tmp_path: Path) -> None:
    for date, names in (("2025-01-30", ["a", "bad"]), ("2025-01-31", ["b"]), ("2025-02-01", ["c"])):
        writer = result_writer(str(tmp_path), scan_date=date, run_id=f"run {date}")
        writer.add(scored(names))
        writer.commit()
    frame = pd.read_parquet(tmp_path / "scores")
    assert list(frame.columns) == [*SCORE_SCHEMA.names, "scan_date"]
    assert not [name for name, kind in frame.dtypes.items() if kind.name == "object"]
    for name in ("last_modified", "scored_at"):
        assert isinstance(frame[name].dtype, pd.DatetimeTZDtype), name
    assert frame.last_modified[0] == MODIFIED
    assert abs(frame.scored_at[0] - pd.Timestamp.now("UTC")) < pd.Timedelta(minutes=10)
    for name in ("category", "model", "error", "run_id", "scan_date"):
        kind = frame[name].dtype
        assert isinstance(kind, pd.CategoricalDtype | pd.StringDtype), name
    for name in ("image_id", "uri", "etag", "map_file", "error_message"):
        assert isinstance(frame[name].dtype, pd.StringDtype), name
    assert frame.score.dtype == np.float32
    assert frame.category.tolist() == ["bottle"] * 4
    assert frame.model.tolist() == ["model-1"] * 4
    assert frame.error.dropna().tolist() == ["truncated"]
    assert frame.scan_date.tolist() == ["2025-01-30"] * 2 + ["2025-01-31", "2025-02-01"]


@pytest.mark.parametrize(
    ("operator", "expected"), [("=", ["b"]), (">=", ["b", "c"]), ("<", ["a"]), ("!=", ["a", "c"])]
)
def test_pandas_filters_on_the_scan_date(
    operator: str, expected: list[str], tmp_path: Path
) -> None:
    for name, date in (("a", "2025-01-30"), ("b", "2025-01-31"), ("c", "2025-02-01")):
        writer = result_writer(str(tmp_path), scan_date=date)
        writer.add(scored([name]))
        writer.commit()
    filters = [("scan_date", operator, "2025-01-31")]
    assert pd.read_parquet(tmp_path / "scores", filters=filters).image_id.tolist() == expected


def test_without_maps_there_are_scores_only(tmp_path: Path, written: list[str]) -> None:
    writer = result_writer(str(tmp_path), write_maps=False)
    writer.add(scored(["a", "bad"]))
    writer.commit()
    assert [uri for uri in written if "/maps/" in uri] == []
    frame = pd.read_parquet(tmp_path / "scores")
    assert frame.map_file.isna().all()
    assert frame.map_row.isna().all()
    assert frame.score.notna().tolist() == [True, False]
    assert writer.map_bytes == 0


def test_errors_alone_make_no_map_shard(tmp_path: Path, written: list[str]) -> None:
    writer = result_writer(str(tmp_path))
    writer.add(scored(["bad 1", "bad 2"]))
    writer.commit()
    assert len(written) == 1
    assert pd.read_parquet(tmp_path / "scores").error.tolist() == ["truncated"] * 2


def test_nothing_to_write_writes_nothing(tmp_path: Path, written: list[str]) -> None:
    writer = result_writer(str(tmp_path), interval_s=1e-9)
    writer.commit()
    writer.add(scored([]))
    writer.commit()
    assert written == []


def test_rows_wait_until_a_file_is_full(
    tmp_path: Path, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "ROWS_PER_FILE", 3)
    writer = result_writer(str(tmp_path))
    writer.add(scored(["a", "b"]))
    assert written == []
    writer.add(scored(["c", "d"]))
    assert (len(written), writer.num_committed) == (2, 4)
    writer.add(scored(["e"]))
    assert len(written) == 2
    writer.commit()
    frame = pd.read_parquet(tmp_path / "scores")
    assert frame.image_id.tolist() == ["a", "b", "c", "d", "e"]
    assert frame.map_row.tolist() == [0, 1, 2, 3, 0]


def test_rows_do_not_wait_longer_than_the_interval(tmp_path: Path, written: list[str]) -> None:
    writer = result_writer(str(tmp_path), interval_s=0.0001)
    writer.add(scored(["a"]))
    assert len(written) == 2
    assert writer.seconds > 0


def test_two_runs_of_one_day_keep_their_rows(tmp_path: Path) -> None:
    for run, name in (("run-1", "a"), ("run-2", "b")):
        writer = result_writer(str(tmp_path), run_id=run)
        writer.add(scored([name]))
        writer.commit()
    frame = pd.read_parquet(tmp_path / "scores")
    assert dict(zip(frame.run_id, frame.image_id, strict=True)) == {"run-1": "a", "run-2": "b"}
    assert_rows_point_at_their_maps(str(tmp_path), frame)


def test_a_map_takes_at_most_3_kib(tmp_path: Path, written: list[str]) -> None:
    count = writer_module.ROWS_PER_FILE
    values = quantize(np.random.default_rng(0).normal(size=count * GRID * GRID), Q8)
    given: dict[str, Callable[[], pa.Array]] = {
        "image_id": lambda: pa.array([os.urandom(16).hex() for _ in range(count)]),
        "logit_grid_q8": lambda: pa.FixedSizeListArray.from_arrays(values, GRID * GRID),
        "grid_height": lambda: pa.repeat(GRID, count),
        "grid_width": lambda: pa.repeat(GRID, count),
        "score": lambda: pa.repeat(0.5, count),
    }
    columns = [
        (given[f.name]() if f.name in given else pa.nulls(count)).cast(f.type)
        for f in scored_schema()
    ]
    writer = result_writer(str(tmp_path))
    writer.add(pa.table(columns, schema=scored_schema()))
    assert len(written) == 2
    assert writer.map_bytes / count <= 3072


def test_a_commit_holds_little_more_than_its_rows_and_their_file(tmp_path: Path) -> None:
    before = pa.default_memory_pool()
    rows = pa.concat_tables([scored([str(i) for i in range(64)], GRID)] * 50)
    writer = result_writer(str(tmp_path))
    writer.add(rows)
    pa.set_memory_pool(POOL)
    try:
        writer.commit()
    finally:
        pa.set_memory_pool(before)
    assert POOL.max_memory() < 3 * rows.nbytes
