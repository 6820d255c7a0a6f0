"""Several labelled data sets as one table to train on."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.datasets import DatasetError
from pipeline.datasets.auxiliary import AUXILIARY_SCHEMA, read_auxiliary, split_name


def write_list(path: Path, num: int, category: str) -> str:
    (path.parent / category).mkdir()
    for i in range(num):
        (path.parent / category / f"{i}.png").touch()
    rows = [f"{category}/{i}.png,{i % 2},{category}" for i in range(num)]
    path.write_text("uri,label,category\n" + "\n".join(rows) + "\n")
    return str(path)


def test_data_sets_are_joined_with_their_names_rates_and_held_out_part(tmp_path: Path) -> None:
    first = write_list(tmp_path / "a.csv", 20, "bolt")
    second = write_list(tmp_path / "b.csv", 10, "nut")
    table = read_auxiliary([f"mvtec={first}", second], held_out=0.2).rows
    assert table.schema == AUXILIARY_SCHEMA
    assert set(
        zip(table["dataset"].to_pylist(), table["mosaic_rate"].to_pylist(), strict=True)
    ) == {
        ("mvtec", 0.2),
        ("b", 0.0),
    }
    held = table.filter(table["held_out"])
    counts = held.group_by(["dataset", "label"]).aggregate([([], "count_all")]).to_pylist()
    assert {(c["dataset"], c["label"]): c["count_all"] for c in counts} == {
        ("mvtec", 0): 2,
        ("mvtec", 1): 2,
        ("b", 0): 1,
        ("b", 1): 1,
    }
    again = read_auxiliary([f"mvtec={first}", second], held_out=0.2).rows
    assert again.equals(table)
    other = read_auxiliary([f"mvtec={first}", second], held_out=0.2, seed=1).rows
    assert not other.equals(table)
    assert pc.sum(other["held_out"]) == pa.scalar(6, pa.uint64())


@pytest.mark.parametrize(
    ("data", "name", "uri"),
    [
        ("visa=s3://bucket/data", "visa", "s3://bucket/data"),
        ("s3://bucket/key=value/clinicdb/", "clinicdb", "s3://bucket/key=value/clinicdb/"),
        ("/data/mine.parquet", "mine", "/data/mine.parquet"),
    ],
)
def test_a_data_set_is_named_by_its_prefix_or_its_last_folder(
    data: str, name: str, uri: str
) -> None:
    assert split_name(data) == (name, uri)


def test_what_cannot_be_trained_on_is_named(tmp_path: Path) -> None:
    one = write_list(tmp_path / "a.csv", 4, "bolt")
    with pytest.raises(DatasetError, match="two data sets are called a"):
        read_auxiliary([one, f"a={one}"])
    with pytest.raises(DatasetError, match="mosaic rate 'b=1'"):
        read_auxiliary([one], mosaic_rates=["b=1"])
    with pytest.raises(DatasetError, match=r"4 images are too few to hold out 0\.1"):
        read_auxiliary([one], held_out=0.1)
