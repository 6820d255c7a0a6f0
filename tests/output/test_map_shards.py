"""Map shards of every version, and how large their files and row groups are."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import ndimage

from pipeline.anomaly_map import Q8, Q15, quantize, render
from pipeline.output.map_shards import (
    OPTIONS,
    ROWS_PER_GROUP,
    columns_of,
    of_today,
    rows_per_group,
    to_parquet,
)
from pipeline.schema import MAP_SCHEMA

SIDE, COUNT = 37, 64


def smooth(count: int = COUNT) -> np.ndarray:
    """Grids as models give them: patches side by side are alike."""
    noise = np.random.default_rng(0).normal(0, 12, (count, SIDE, SIDE))
    return ndimage.gaussian_filter(noise, (0, 2, 2)).astype(np.float32) - 2


def shard(grids: np.ndarray, kind: str) -> pa.Table:
    """Of today, or with the half floats of versions before 0.2; the last image has no map."""
    names = {"q8": ("logit_grid_q8", "embedding_q15"), "half": ("logit_grid", "embedding")}[kind]
    vectors = np.eye(len(grids), 8, dtype=np.float32)
    values = [[*column, None] for column in (grids.reshape(len(grids), -1), vectors)]
    columns = {"image_id": pa.array([f"{i:032x}" for i in range(len(grids) + 1)])}
    for name, each, steps in zip(names, values, (Q8, Q15), strict=True):
        if kind == "q8":
            stored = [None if one is None else quantize(one, steps) for one in each]
            columns[name] = pa.array(stored, pa.list_(pa.int16()))
        else:
            stored = [None if one is None else one.astype(np.float16) for one in each]
            columns[name] = pa.array(stored, pa.list_(pa.float16()))
    for name in ("grid_height", "grid_width"):
        columns[name] = pa.array([SIDE] * len(grids) + [None], pa.int16())
    return pa.table(columns)


@pytest.mark.parametrize("kind", ["q8", "half"])
@pytest.mark.parametrize("first", [0, 3])
def test_shards_of_every_version_hold_the_same_maps(kind: str, first: int) -> None:
    grids = smooth()
    rows = of_today(shard(grids, kind).slice(first))
    assert rows.schema.equals(MAP_SCHEMA)
    assert rows["logit_grid_q8"].to_pylist()[-1] is None
    for found, grid in zip(rows["logit_grid_q8"].to_pylist()[:-1], grids[first:], strict=True):
        stored = np.array(found, np.float32).reshape(SIDE, SIDE) / 256
        np.testing.assert_allclose(render(stored, 100), render(grid, 100), rtol=0, atol=1e-3)
    vectors = np.array(rows["embedding_q15"].to_pylist()[:-1]) / 32_768
    np.testing.assert_allclose(vectors, np.eye(COUNT, 8)[first:], rtol=0, atol=1e-4)


def test_what_a_shard_is_too_old_for_is_null() -> None:
    old = shard(smooth(4), "half").drop_columns(["embedding"])
    assert columns_of(old.column_names) == [
        *("image_id", "logit_grid", "grid_height", "grid_width"),
    ]
    assert columns_of(old.column_names, ["embedding_q15"]) == []
    assert of_today(old)["embedding_q15"].null_count == 5


def test_files_are_no_longer_than_of_half_floats_and_hold_no_type_that_readers_lack() -> None:
    sizes = {}
    for kind in ("q8", "half"):
        table, buffer = shard(smooth(), kind), io.BytesIO()
        options = OPTIONS if kind == "q8" else {"compression": "zstd", "use_dictionary": False}
        pq.write_table(table, buffer, **options)
        sizes[kind] = buffer.tell()
    assert sizes["q8"] < sizes["half"]
    assert not [field for field in MAP_SCHEMA if "halffloat" in str(field.type)]


def test_row_groups_hold_fewer_maps_the_larger_they_are() -> None:
    assert rows_per_group(4, 4 * 2 * SIDE**2) == ROWS_PER_GROUP
    assert rows_per_group(4, 4 * 2**18) == 4
    assert rows_per_group(4, 4 * 2**21) == 1


@pytest.mark.parametrize("columns", [1, 300])
def test_a_shard_holds_the_chosen_rows_in_their_order(columns: int) -> None:
    rows = of_today(shard(np.repeat(smooth(8), columns, axis=2), "q8"))
    rows = rows.append_column("score", pa.array(np.arange(9.0)))
    positions = np.array([6, 0, 3] * 50)
    file = pq.ParquetFile(io.BytesIO(to_parquet(rows, pa.array(positions))))
    found, group = file.read(), rows_per_group(150, rows.select(MAP_SCHEMA.names).nbytes)
    assert found.equals(rows.select(MAP_SCHEMA.names).take(positions))
    assert found.schema.equals(MAP_SCHEMA, check_metadata=False)
    assert file.num_row_groups == -(-150 // group)
