"""Codecs on map shards: bytes and time for each map."""

from __future__ import annotations

import numpy as np

from pipeline.benchmark.map_files import ENCODINGS, LEVELS, maps_of, measure_table
from pipeline.schema import MAP_SCHEMA

RANDOM = np.random.default_rng(0)
GRIDS = np.cumsum(RANDOM.standard_normal((64, 12, 12)), axis=2).astype(np.float16)


def test_every_codec_and_encoding_is_measured_and_zstd_saves_bytes() -> None:
    results = list(measure_table(maps_of(GRIDS)))
    assert len(results) == len(LEVELS) * len(ENCODINGS)
    size = {(r["codec"], r["encoding"]): r["bytes"] for r in results}
    assert size["zstd 1", "PLAIN"] < size["none", "PLAIN"]
    assert size["none", "PLAIN"] >= 2 * 12 * 12 + 32


def test_maps_are_as_the_schema_says() -> None:
    table = maps_of(GRIDS)
    assert table.schema == MAP_SCHEMA
    np.testing.assert_array_equal(table["logit_grid"][3].as_py(), GRIDS[3].ravel())
