"""Published tables as others read them, each through the reader of its own format."""

from __future__ import annotations

import os
from typing import Any

import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import Table
from pyiceberg.utils.config import Config

from pipeline.config import DeltaPlace, Place
from pipeline.results import open_results

KEY = ["uri", "model", "category"]


def delta(place: Place) -> DeltaTable:
    assert isinstance(place, DeltaPlace)
    options = {"aws_allow_http": "true"}  # all else from the environment
    return DeltaTable(place.folder, storage_options=options)


def catalog(name: str) -> Catalog:
    """As pyiceberg is configured at the moment; it does not look for S3's endpoint by itself."""
    settings: dict[str, Any] = dict(Config().get_catalog_config(name) or {})
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        settings["s3.endpoint"] = endpoint
    return load_catalog(name, **settings)


def iceberg(place: Place) -> Table:
    assert not isinstance(place, DeltaPlace)
    return catalog(place.catalog).load_table(place.identifier)


def arrow(place: Place) -> pa.Table:
    if isinstance(place, DeltaPlace):
        return delta(place).to_pyarrow_table()
    return iceberg(place).scan().to_arrow()


def rows(place: Place) -> pd.DataFrame:
    """All rows, in an order that tables have not."""
    return arrow(place).to_pandas().sort_values(KEY, ignore_index=True)


def version(place: Place) -> str:
    """Another one after every change."""
    if isinstance(place, DeltaPlace):
        return str(delta(place).version())
    return iceberg(place).metadata_location


def is_there(place: Place) -> bool:
    if isinstance(place, DeltaPlace):
        return DeltaTable.is_deltatable(place.folder, {"aws_allow_http": "true"})
    return catalog(place.catalog).table_exists(place.identifier)


def check(output: str, place: Place) -> pd.DataFrame:
    """The table has the rows that count, value by value; returns it."""
    found = rows(place)
    expected = open_results(output).scores().sort_values(KEY, ignore_index=True)
    expected = expected[found.columns.tolist()]
    for name in expected:
        if isinstance(expected[name].dtype, pd.CategoricalDtype):
            expected[name] = expected[name].astype(str).where(expected[name].notna())
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    return found
