"""A stored map against the one that the model itself gives, at any size."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from pipeline.config import ModelSpec
from pipeline.distributed.reader import read_images
from pipeline.distributed.scorer import AnomalyScorer
from pipeline.identity import ModelIdentity
from pipeline.output.writer import ResultWriter
from pipeline.results import Results, open_results
from pipeline.schema import MANIFEST_SCHEMA
from pipeline.storage import stat
from tests import golden

CASES = range(len(golden.CASES))
ROUNDING = 1e-3  # of the grid


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, golden_files: dict[str, str]
) -> tuple[Results, pd.DataFrame]:
    """The four golden images on the job's way: read, scored by the golden model, written."""
    folder = tmp_path_factory.mktemp("golden_output")
    rows = []
    for case in CASES:
        name, category = golden.CASES[case]
        (folder / name).write_bytes(golden.image_bytes(case))
        info = stat(f"file://{folder / name}")
        row = {"uri": info.uri, "etag": info.etag, "size": info.size, "category": category}
        rows.append({"image_id": f"{case:032x}", **row})
    manifest = pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)
    fingerprint = golden.load(golden_files).fingerprint()
    model = ModelSpec(**golden_files, image_size=golden.IMAGE_SIZE)
    scorer = AnomalyScorer(model, fingerprint=fingerprint, gpus=0, num_threads=1)
    writer = ResultWriter(
        output=f"file://{folder}/out",
        scan_date="2026-01-01",
        run_id="run",
        identity=ModelIdentity(fingerprint),
        write_maps=True,
        interval_s=1e9,
    )
    for block in read_images(manifest, image_size=golden.IMAGE_SIZE, max_megapixels=1):
        writer.add(scorer(block))
    writer.commit()
    opened = open_results(f"{folder}/out")
    return opened, opened.scores().set_index("image_id", drop=False)


@pytest.mark.parametrize("case", CASES)
def test_a_stored_map_is_the_released_codes_map(
    results: tuple[Results, pd.DataFrame], case: int
) -> None:
    opened, rows = results
    recorded = golden.values()[f"{case}/anomaly_map"]
    found = opened.map(rows.loc[f"{case:032x}"], golden.IMAGE_SIZE)
    np.testing.assert_allclose(found, recorded, rtol=0, atol=ROUNDING)
    smoothed = opened.map(rows.loc[f"{case:032x}"], golden.IMAGE_SIZE, sigma=4)
    np.testing.assert_allclose(
        smoothed, golden.values()[f"{case}/smoothed_map"], rtol=0, atol=ROUNDING
    )


@pytest.mark.parametrize("case", CASES)
def test_a_stored_map_at_the_images_own_size_is_the_models(
    results: tuple[Results, pd.DataFrame], golden_files: dict[str, str], case: int
) -> None:
    opened, rows = results
    row = rows.loc[f"{case:032x}"]
    grid = golden.load(golden_files).predict(*golden.batch([case])).logit_grid[None]
    size = (int(row.height), int(row.width))
    assert size != (golden.IMAGE_SIZE, golden.IMAGE_SIZE)
    resized = torch.nn.functional.interpolate(grid, size, mode="bilinear", align_corners=True)
    found = opened.map(row)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, torch.sigmoid(resized)[0, 0].numpy(), rtol=0, atol=ROUNDING)
    # So what the row says of its map holds for the rendered one.
    assert found.max() <= row.map_max + 1e-6


def test_neighbouring_maps_are_read_once(
    results: tuple[Results, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, rows = open_results(results[0].uri), results[1]
    read = pa.parquet.ParquetFile.read_row_group
    calls = []
    monkeypatch.setattr(
        pa.parquet.ParquetFile,
        "read_row_group",
        lambda *a, **k: calls.append(a) or read(*a, **k),
    )
    for _, row in rows.iterrows():
        opened.map(row)
    assert len(calls) == 1
