"""What is odd about data to train on is said in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.datasets import contents
from pipeline.datasets.auxiliary import Auxiliary, read_auxiliary
from pipeline.datasets.remarks import label_remarks, remarks_on, spelling_remarks
from pipeline.storage import write_object
from tests.datasets.replica import SIDE, encoded, mask


def picture(number: int) -> bytes:
    """One of many images; uncompressed, so that all have the same size."""
    return encoded(np.full((SIDE, SIDE, 3), number, np.uint8), "bmp")


def write(root: str, good: int = 4, abnormal: int = 4) -> None:
    """A sound data set of the generic layout: no two images are equal."""
    for i in range(good):
        write_object(f"{root}/good/{i}.bmp", picture(i))
    for i in range(abnormal):
        write_object(f"{root}/scratch/{i}.bmp", picture(100 + i))
        write_object(f"{root}/masks/scratch/{i}.png", mask())


def found(root: str, **settings: float) -> list[str]:
    return remarks_on(read_auxiliary([root], split=None, **settings)).lines


@pytest.fixture(params=["file", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where contents are read, and where their hashes are listed."""
    if request.param == "file":
        return f"file://{tmp_path}/parts"
    return f"s3://{request.getfixturevalue('bucket')}/parts"


def test_nothing_is_said_of_sound_data(root: str) -> None:
    write(root)
    assert found(root, held_out=0.25) == []


def test_empty_masks_are_counted_and_named(root: str) -> None:
    write(root)
    write_object(f"{root}/masks/scratch/2.png", mask(value=0))
    remarks = remarks_on(read_auxiliary([root]))
    (line,) = remarks.lines
    assert line.startswith(f"1 abnormal images have an empty mask, such as {root}/scratch/2.bmp")
    assert remarks.empty_masks == [f"{root}/scratch/2.bmp"]


def test_a_limit_on_the_masks_that_are_read_is_told(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root)
    for i in range(4):
        write_object(f"{root}/masks/scratch/{i}.png", mask(value=0))
    monkeypatch.setattr(contents, "MAX_MASKS", 2)
    (line,) = found(root)
    assert line.startswith("2 abnormal images of 2 looked at among 4 have an empty mask")


def test_good_images_with_a_defect_in_their_mask_are_named(root: str) -> None:
    write(root)
    write_object(f"{root}/masks/good/0.png", mask(value=0))
    assert found(root) == []
    write_object(f"{root}/masks/good/1.png", mask())
    (line,) = found(root)
    named = f"{root}/good/1.bmp with {root}/masks/good/1.png"
    assert line.startswith(f"1 good images have a mask that is not empty, such as {named}")


def test_masks_of_good_images_in_a_list_are_seen(tmp_path: Path) -> None:
    write(f"file://{tmp_path}")
    lines = ["uri,label,mask_uri", "good/0.bmp,0,masks/scratch/0.png", "good/1.bmp,0,"]
    lines += ["scratch/1.bmp,1,masks/scratch/1.png"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    data = read_auxiliary([f"{tmp_path}/list.csv"])
    assert data.rows["mask_uri"].to_pylist()[0] is None
    (line,) = remarks_on(data).lines
    assert "1 good images have a mask that is not empty" in line


def test_duplicates_across_what_should_be_apart_are_named(root: str) -> None:
    write(root)
    write_object(f"{root}/good/9.bmp", picture(100))
    (line,) = found(root)
    pair = f"{root}/good/9.bmp and {root}/scratch/0.bmp"
    assert (
        line == f"1 images are there with the labels good and abnormal, such as {pair}; remove one"
    )


def test_an_image_that_is_trained_on_and_held_out_is_named(root: str) -> None:
    write(root, good=8)
    data = read_auxiliary([root], held_out=0.25)
    good = [row for row in data.rows.to_pylist() if not row["label"]]
    held_out = next(row["uri"] for row in good if row["held_out"])
    trained_on = next(row["uri"] for row in good if not row["held_out"])
    number = int(held_out.rsplit("/", 1)[1].removesuffix(".bmp"))
    write_object(trained_on, picture(number))
    assert any("are trained on and held out" in line for line in remarks_on(data).lines)


def test_an_image_of_the_other_split_is_named_although_it_is_not_trained_on(root: str) -> None:
    for i in range(3):
        write_object(f"{root}/train/good/{i}.bmp", picture(i))
        write_object(f"{root}/test/good/{i}.bmp", picture(10 + i))
        write_object(f"{root}/test/scratch/{i}.bmp", picture(20 + i))
        write_object(f"{root}/ground_truth/scratch/{i}_mask.png", mask())
    assert remarks_on(read_auxiliary([root])).lines == []
    write_object(f"{root}/train/good/2.bmp", picture(11))
    (line,) = remarks_on(read_auxiliary([root])).lines
    assert line.startswith("1 images are in both splits")
    assert f"{root}/test/good/1.bmp" in line


def test_files_that_are_not_compared_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(f"file://{tmp_path}/parts")
    monkeypatch.setattr(contents, "MAX_COMPARED", 5)
    (line,) = found(f"{tmp_path}/parts")
    assert line.startswith("3 images could not be compared with others by their contents")
    monkeypatch.setattr(contents, "MAX_COMPARED_BYTES", 2 * len(picture(0)))
    (line,) = found(f"{tmp_path}/parts")
    assert line.startswith("6 images could not be compared")


def labelled(*rows: tuple[str, str, int]) -> pa.Table:
    columns = ("dataset", "category", "label")
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows])


def test_a_category_with_two_spellings_is_named() -> None:
    rows = labelled(
        ("a", "metal nut", 0), ("b", "Metal_Nut", 1), ("b", "metal nut", 1), ("a", "x", 0)
    )
    (line,) = spelling_remarks(rows)
    assert "'metal nut' (2 images) and 'Metal_Nut' (1 images)" in line
    assert spelling_remarks(labelled(("a", "nut", 0), ("a", "nuts", 1))) == []


def test_one_kind_of_images_is_said_of_all_or_of_a_category() -> None:
    (line,) = label_remarks(labelled(("a", "nut", 1), ("b", "bolt", 1)))
    assert line.startswith("all 2 images are abnormal")
    mixed = (("a", "nut", 1), ("a", "nut", 0), ("b", "polyp", 1), ("b", "cup", 0))
    assert [line[:58] for line in label_remarks(labelled(*mixed))] == [
        "1 categories have good images only, such as cup of b: what",
        "1 categories have abnormal images only, such as polyp of b",
    ]


def test_what_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    write(f"file://{tmp_path}/parts")
    data = read_auxiliary([f"{tmp_path}/parts"])
    (tmp_path / "parts/masks/scratch/0.png").write_bytes(b"broken")
    (tmp_path / "parts/good/0.bmp").unlink()
    gone = Auxiliary(
        data.rows, data.others, {data.rows["uri"][0].as_py(): ("file:///nowhere.png",)}
    )
    (line,) = remarks_on(gone).lines
    assert line.startswith("1 images could not be compared")
