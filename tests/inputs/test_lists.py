"""Names and columns of lists, wherever they are read: relative names, blanks, odd types."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.inputs.lists import as_text, resolved, spelled


@pytest.mark.parametrize(
    ("name", "source", "uri"),
    [
        ("a.png", "file:///data/list.csv", "file:///data/a.png"),
        ("sub//a.png", "s3://bucket/lists/l.csv", "s3://bucket/lists/sub//a.png"),
        ("../a.png", "s3://bucket/lists/l.csv", "s3://bucket/a.png"),
        ("./x/a.png", "s3://bucket/lists/l.csv", "s3://bucket/lists/x/a.png"),
        ("../../../a.png", "s3://bucket/lists/l.csv", "s3://bucket/a.png"),
        ("/data/a.png", "s3://bucket/l.csv", "file:///data/a.png"),
        ("s3://other/a.png", "file:///data/list.csv", "s3://other/a.png"),
    ],
)
def test_names_without_a_scheme_are_relative_to_the_list(name: str, source: str, uri: str) -> None:
    assert resolved(name, source) == uri


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["a", None]), ["a", None]),
        (pa.array([b"a", None]), ["a", None]),
        (pa.array([b"a"], pa.binary(1)), ["a"]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array([7, None]), ["7", None]),
        (pa.array([7.0, None]), ["7", None]),
        (pa.array([7.5]), ["7.5"]),
        (pa.nulls(1), [None]),
    ],
)
def test_columns_become_text(column: pa.Array, expected: list[str | None]) -> None:
    assert as_text(column, "category", "list.parquet").to_pylist() == expected


@pytest.mark.parametrize("column", [pa.array([b"\xff"]), pa.array([["a"]]), pa.array([True])])
def test_columns_that_are_no_text_are_refused_by_name(column: pa.Array) -> None:
    with pytest.raises(ValueError, match=r"list\.parquet: the column 'uri' holds"):
        as_text(column, "uri", "list.parquet")


def test_two_columns_of_one_name_are_refused() -> None:
    assert spelled(["uri", " category "], "l.csv") == {"uri": "uri", "category": " category "}
    with pytest.raises(ValueError, match=r"l\.csv has two columns 'uri'"):
        spelled(["uri", " uri"], "l.csv")
