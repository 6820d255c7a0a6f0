"""One table from any data set: recognising layouts, splits, duplicates, and what can't be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.datasets import LAYOUTS, DatasetError, read_dataset
from pipeline.schema import LABELLED_SCHEMA
from pipeline.storage import StorageError
from tests.datasets.replica import rows, write


def error(root: Path | str, layout: str = "auto", split: str | None = None) -> str:
    with pytest.raises(DatasetError) as caught:
        read_dataset(str(root), layout, split=split)
    return str(caught.value)


def test_the_table_has_the_schema_and_is_sorted(tmp_path: Path) -> None:
    write(f"{tmp_path}/cup", "train/good/a.png", "test/good/b.png", "test/good/a.png")
    table = read_dataset(f"{tmp_path}/cup")
    assert table.schema == LABELLED_SCHEMA
    uris = table["uri"].to_pylist()
    assert uris == [f"file://{tmp_path}/cup/test/good/{name}.png" for name in "ab"]


def test_all_layouts_of_the_paper_have_a_name() -> None:
    paper = "mvtec visa mpdd btad ksdd dagm dtd-synthetic headct brainmri br35h isic colondb"
    assert {*paper.split(), "clinicdb", "tn3k", "meta", "folder", "list"} == set(LAYOUTS)


def test_an_unknown_layout_is_answered_with_those_there_are(tmp_path: Path) -> None:
    write(str(tmp_path), "pictures/a.png", "a.txt.png")
    message = error(tmp_path)
    assert f"{tmp_path} fits no known layout" in message
    assert "meta.json" in message
    for name in LAYOUTS:
        assert name in message
    assert "unknown layout 'mvtek'; there are: auto, meta" in error(tmp_path, "mvtek")


def test_a_folder_that_fits_two_layouts_is_answered_with_both(tmp_path: Path) -> None:
    root = tmp_path / "brain"
    write(str(root), "yes/y1.jpg", "no/no1.jpg")
    assert "fits several layouts: brainmri, br35h" in error(root)
    assert {row[3] for row in rows(f"file://{root}", "br35h")} == {"br35h"}


def test_a_named_layout_without_its_images_says_what_it_expects(tmp_path: Path) -> None:
    write(str(tmp_path), "good/a.png")
    message = error(tmp_path, "visa")
    assert str(tmp_path) in message
    assert "Data/Images/Normal" in message


def test_a_split_without_images_says_which_have_some(tmp_path: Path) -> None:
    write(str(tmp_path / "cup"), "good/a.png")
    assert "no image of the split 'train' (splits with images: test)" in error(
        tmp_path / "cup", split="train"
    )
    assert "unknown split 'val'" in error(tmp_path / "cup", split="val")


def test_nothing_there_names_the_folder(tmp_path: Path, bucket: str) -> None:
    assert f"{tmp_path}: no files there" in error(tmp_path)
    assert f"s3://{bucket}/nothing: no files there" in error(f"s3://{bucket}/nothing")
    with pytest.raises(StorageError, match="missing"):
        read_dataset(str(tmp_path / "missing"))
