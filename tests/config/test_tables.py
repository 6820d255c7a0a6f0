"""URIs of published tables: what they mean, and that others are refused with an example."""

from __future__ import annotations

import pytest

from pipeline.config import DeltaPlace, IcebergPlace, table_place


@pytest.mark.parametrize("folder", ["s3://bucket/tables/scores", "/data/scores", "file:///data/x"])
def test_delta_stands_before_the_uri_of_a_folder(folder: str) -> None:
    assert table_place(f"delta://{folder}") == DeltaPlace(f"delta://{folder}", folder)


def test_iceberg_names_a_catalog_its_namespaces_and_a_table() -> None:
    place = table_place("iceberg://prod/factory/line/scores")
    assert place == IcebergPlace(
        "iceberg://prod/factory/line/scores", "prod", ("factory", "line", "scores")
    )


@pytest.mark.parametrize(
    "uri",
    [
        *("", "scores", "s3://bucket/scores", "delta", "delta://", "iceberg://"),
        *("delta://bucket/tables/scores", "delta://s3://", "delta:s3://bucket/scores"),
        *("iceberg://prod", "iceberg://prod/scores", "iceberg://prod//scores", "iceberg:///a/b"),
        *("iceberg://prod/a/", "iceberg://s3://bucket/a/b"),
    ],
)
def test_others_are_refused_with_an_example(uri: str) -> None:
    with pytest.raises(ValueError, match=r"is no table; give iceberg://.*delta://s3://bucket"):
        table_place(uri)
