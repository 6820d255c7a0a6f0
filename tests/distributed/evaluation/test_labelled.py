"""Existing scores are measured at the size at which the model saw their images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config import EvaluateConfig
from pipeline.distributed.evaluation.labelled import LabelledSet, existing_scores
from pipeline.schema import LABELLED_SCHEMA
from pipeline.storage import write_object
from tests.outputs import scored, write

RUN = "20260101T000000Z-a"


@pytest.mark.parametrize(
    ("settings", "longest", "side"),
    [
        ({"image_size": 70}, 2_000, 70),  # of a version without tiles
        ({"image_size": 70, "tiles": 1, "tile_size": 0}, 2_000, 70),
        ({"image_size": 70, "tiles": 8, "tile_size": 0}, 96, 140),
        ({"image_size": 70, "tiles": 8, "tile_size": 100}, 96, 70),
        ({"image_size": 70, "tiles": 8, "tile_size": 100}, 2_000, 560),
    ],
)
def test_the_size_is_that_of_the_tiles_which_the_images_take(
    settings: dict[str, Any], longest: int, side: int, tmp_path: Path
) -> None:
    output = f"{tmp_path}/scores"
    write(output, [scored("s3://b", 1, 0.5)], "2026-01-01", run_id=RUN)
    write_object(f"{output}/runs/{RUN}/config.json", json.dumps(settings).encode())
    image = {"uri": "s3://b/1.jpg", "category": "bolt", "label": 0, "split": "test"}
    rows = pa.Table.from_pylist([image], schema=LABELLED_SCHEMA)
    config = EvaluateConfig(data=("set",), output=output, scores=output)
    frame, found = existing_scores(config, [LabelledSet("set", "set", "", rows)])
    assert frame.error.isna().all()
    assert found.measured_size(longest) == side
