"""Outputs of the scoring job for tests, without running a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.anomaly_map import Q8, dequantize, quantize
from pipeline.identity import ModelIdentity
from pipeline.output.map_shards import ROWS_PER_GROUP
from pipeline.output.writer import ResultWriter
from pipeline.schema import scored_schema

GRID = 6
NEWER = (
    *("score_logit", "zero_shot_score", "reference_score", "nearest_reference"),
    *("reference_set", "embedding_q15", "frames"),
)


def grid(i: int) -> NDArray[np.float32]:
    """The logit grid of image i: numbers that files of any version hold as they are."""
    found = np.random.default_rng(i).normal(0, 3, (GRID, GRID)).clip(-7, 7)
    return dequantize(quantize(found, Q8), Q8)


def scored(folder: str, i: int, score: float | None) -> dict[str, object]:
    """A row as the scorers make it, for the image ``<folder>/<i>.jpg``; no score is an error."""
    failed = score is None
    return {
        "image_id": f"{i:032x}",
        "uri": f"{folder}/{i}.jpg",
        "etag": "1",
        "category": "bolt" if i % 2 else "nut",
        "score": score,
        "error": "truncated" if failed else None,
        "error_message": "cut short" if failed else None,
        "width": None if failed else 96,
        "height": None if failed else 64,
        **dict.fromkeys(("box_x0", "box_y0"), None if failed else 10),
        **dict.fromkeys(("box_x1", "box_y1"), None if failed else 40),
        "logit_grid_q8": None if failed else quantize(grid(i).ravel(), Q8),
        "grid_height": None if failed else GRID,
        "grid_width": None if failed else GRID,
    }


def write(
    output: str,
    rows: list[dict[str, object]],
    scan_date: str,
    model: str = "m",
    run_id: str | None = None,
    references: dict[str, str] | None = None,
) -> None:
    """Write rows through the job's own writer."""
    writer = ResultWriter(
        output=output,
        scan_date=scan_date,
        run_id=run_id or f"run-{scan_date}-{model}",
        identity=ModelIdentity(model, references or {}),
        write_maps=True,
        interval_s=1e9,
    )
    writer.add(pa.Table.from_pylist(rows, schema=scored_schema()))
    writer.commit()


def age(output: str, scan_date: str = "*") -> None:
    """Leave the files as a version wrote them that knew no references and no embeddings, and had
    grids of half floats."""
    for path in Path(output.removeprefix("file://")).glob(f"*/scan_date={scan_date}/*.parquet"):
        table = pq.ParquetFile(path).read()
        table = table.select([name for name in table.column_names if name not in NEWER])
        if "logit_grid_q8" in table.column_names:
            table = table.set_column(1, "logit_grid", half_floats(table["logit_grid_q8"]))
        pq.write_table(table, path, row_group_size=ROWS_PER_GROUP)


def half_floats(grids: pa.ChunkedArray) -> pa.Array:
    """Grids as versions before 0.2 kept them."""
    values = [None if each is None else np.array(each) / Q8 for each in grids.to_pylist()]
    halves = [None if each is None else each.astype(np.float16) for each in values]
    return pa.array(halves, pa.list_(pa.float16()))
