"""Labels that stand in a file: meta.json, VisA's split, HeadCT's labels, lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.datasets import DatasetError, read_dataset
from pipeline.storage import write_object
from tests.datasets.replica import rows, write

META: dict[str, Any] = {
    "train": {"metal_nut": [["metal_nut/train/good/0.png", "", 0]]},
    "test": {
        "metal_nut": [
            ["metal_nut/test/good/0.png", "", 0],
            ["metal_nut/test/bent/0.png", "metal_nut/ground_truth/bent/0.png", 1],
        ],
        "headct": [["headct/test/defect/1.png", "", 1]],
    },
}
VISA_SPLIT = """object,split,label,image,mask
candle,train,normal,candle/Data/Images/Normal/0.JPG,
candle,test,normal,candle/Data/Images/Normal/1.JPG,
candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png
"""


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty folder."""
    if request.param == "local":
        return f"file://{tmp_path}/data"
    return f"s3://{request.getfixturevalue('bucket')}/data"


def write_text(root: str, path: str, text: str) -> None:
    write_object(f"{root}/{path}", text.encode())


def error(root: str, layout: str = "auto", split: str | None = None) -> str:
    with pytest.raises(DatasetError) as caught:
        read_dataset(root, layout, split=split)
    return str(caught.value)


def meta(content: dict[str, Any]) -> str:
    """meta.json as AdaCLIP's preprocessing writes it."""
    keys = ("img_path", "mask_path", "anomaly")
    return json.dumps(
        {
            split: {
                name: [
                    {**dict(zip(keys, entry, strict=True)), "cls_name": name, "specie_name": "x"}
                    for entry in entries
                ]
                for name, entries in classes.items()
            }
            for split, classes in content.items()
        }
    )


def test_meta_json_says_everything(root: str) -> None:
    named = [e for classes in META.values() for entries in classes.values() for e in entries]
    write(root, *[path for entry in named for path in entry[:2] if path], "unnamed/test/good/0.png")
    write_text(root, "meta.json", meta(META))
    assert rows(root) == [
        ("headct/test/defect/1.png", None, 1, "headct", "test"),
        ("metal_nut/test/bent/0.png", "metal_nut/ground_truth/bent/0.png", 1, "metal_nut", "test"),
        ("metal_nut/test/good/0.png", None, 0, "metal_nut", "test"),
        ("metal_nut/train/good/0.png", None, 0, "metal_nut", "train"),
    ]
    assert len(rows(root, split="test")) == 3
    assert rows(root, "meta", "train")[0][0] == "metal_nut/train/good/0.png"


@pytest.mark.parametrize("missing", ["cup/test/chip/0.png", "cup/ground_truth/chip/0.png"])
def test_meta_json_names_a_file_that_is_missing(missing: str, tmp_path: Path) -> None:
    files = ("cup/test/chip/0.png", "cup/ground_truth/chip/0.png")
    write(str(tmp_path), *[file for file in files if file != missing])
    write_text(str(tmp_path), "meta.json", meta({"test": {"cup": [[*files, 1]]}}))
    assert f"meta.json names {missing}, which is not in" in error(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"test": []}',
        '{"validation": {"cup": [{}]}}',
        '{"test": {"cup": [{"img_path": "a.png"}]}}',
        meta({"test": {"cup": [["a.png", "", 2]]}}),
        "\xff",
    ],
)
def test_a_meta_json_of_other_contents_is_named_with_what_is_expected(
    text: str, tmp_path: Path
) -> None:
    write(str(tmp_path), "a.png")
    (tmp_path / "meta.json").write_bytes(text.encode("latin-1"))
    message = error(str(tmp_path))
    assert f"{tmp_path}/meta.json can't be understood" in message
    assert "img_path" in message


def test_the_layout_meta_needs_its_file(tmp_path: Path) -> None:
    write(str(tmp_path), "a.png")
    assert "meta.json, which is not in" in error(str(tmp_path), "meta")


def test_visas_split_comes_from_its_csv(root: str) -> None:
    images = [f"candle/Data/Images/{name}.JPG" for name in ("Normal/0", "Normal/1", "Anomaly/0")]
    write(root, *images, "candle/Data/Masks/Anomaly/0.png")
    write_text(root, "split_csv/1cls.csv", VISA_SPLIT)
    assert rows(root) == [
        (images[2], "candle/Data/Masks/Anomaly/0.png", 1, "candle", "test"),
        (images[0], None, 0, "candle", "train"),
        (images[1], None, 0, "candle", "test"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Anomaly/0.JPG", "Anomaly/7.JPG", "1cls.csv names candle/Data/Images/Anomaly/7.JPG"),
        ("Masks/Anomaly/0.png", "Masks/7.png", "1cls.csv names candle/Data/Masks/7.png"),
        (",candle/Data/Masks/Anomaly/0.png", ",", "no mask for the abnormal image"),
        ("anomaly", "strange", "row 3"),
        ("object,split,label", "object,split,class", "no column 'label'"),
    ],
)
def test_visas_csv_is_checked(old: str, new: str, message: str, tmp_path: Path) -> None:
    images = [f"candle/Data/Images/{name}.JPG" for name in ("Normal/0", "Normal/1", "Anomaly/0")]
    write(str(tmp_path), *images, "candle/Data/Masks/Anomaly/0.png")
    write_text(str(tmp_path), "split_csv/1cls.csv", VISA_SPLIT.replace(old, new))
    assert message in error(str(tmp_path))


def test_headcts_labels_go_by_number(root: str) -> None:
    write(root, "head_ct/000.png", "head_ct/001.png")
    write_text(root, "labels.csv", "id, hemorrhage\n0, 1\n1, 0\n")
    expected = [
        ("head_ct/000.png", None, 1, "headct", "test"),
        ("head_ct/001.png", None, 0, "headct", "test"),
    ]
    assert rows(root) == rows(root, "headct") == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("0,1\n", "no label for number 1"),
        ("0,1\n1,0\n2,0\n", "no image for number 2"),
        ("0,1\n1,maybe\n", "labels.csv, row 2: expected a number and 0 or 1"),
        ("zero,1\n", "labels.csv, row 1"),
        ("0\n", "labels.csv, row 1"),
    ],
)
def test_headcts_labels_must_fit_its_images(labels: str, message: str, tmp_path: Path) -> None:
    write(str(tmp_path), "head_ct/head_ct/000.png", "head_ct/head_ct/001.png")
    write_text(str(tmp_path), "labels.csv", f"id, hemorrhage\n{labels}")
    assert message in error(str(tmp_path))


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_a_list_names_images_anywhere(extension: str, root: str, tmp_path: Path) -> None:
    elsewhere = f"file://{tmp_path}/elsewhere/d.png"
    write(root, "images/a.png", "images/b.png", "images/c.png", "masks/b.png")
    frame = pd.DataFrame(
        {
            "uri": ["images/a.png", f"{root}/images/b.png", "images/c.png", elsewhere],
            "mask_uri": [None, "masks/b.png", None, "http://host/d.png"],
            "label": [0, 1, 1, 0],
            "category": ["metal nut", "007", None, "cup"],
            "split": ["train", "test", None, "test"],
        }
    )
    path = tmp_path / f"list.{extension}"
    frame.to_csv(path, index=False) if extension == "csv" else frame.to_parquet(path)
    write_object(f"{root}/list.{extension}", path.read_bytes())
    table = read_dataset(f"{root}/list.{extension}", split=None).to_pylist()
    columns = ("mask_uri", "label", "category", "split")
    found = {row["uri"]: tuple(row[name] for name in columns) for row in table}
    assert found == {
        f"{root}/images/a.png": (None, 0, "metal nut", "train"),
        f"{root}/images/b.png": (f"{root}/masks/b.png", 1, "007", "test"),
        f"{root}/images/c.png": (None, 1, "object", "test"),
        elsewhere: (None, 0, "cup", "test"),
    }
    assert list(found) == sorted(found)


@pytest.mark.parametrize("labels", [["0", "1"], ["good", "Anomaly"], ["false", "TRUE"]])
def test_a_list_needs_only_images_and_labels(labels: list[str], tmp_path: Path) -> None:
    write(str(tmp_path), "a.png", "b.png")
    text = f"\ufeffuri, label\na.png,{labels[0]}\nb.png, {labels[1]}\n"
    write_text(str(tmp_path), "list.csv", text)
    table = read_dataset(f"{tmp_path}/list.csv")
    assert table["label"].to_pylist() == [0, 1]
    assert set(table["category"].to_pylist()) == {"object"}


def test_labels_in_parquet_may_be_booleans(tmp_path: Path) -> None:
    write(str(tmp_path), "a.png", "b.png")
    frame = pd.DataFrame({"uri": ["a.png", "b.png"], "label": [True, False]})
    frame.to_parquet(tmp_path / "list.parquet")
    assert read_dataset(f"{tmp_path}/list.parquet")["label"].to_pylist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uri,label\nb.png,0\n", "b.png, which does not exist"),
        ("uri,label\nsub/b.png,0\n", "sub/b.png, which does not exist"),
        ("uri,label,mask_uri\na.png,1,m.png\n", "m.png, which does not exist"),
        ("uri,label\na.png,2\n", "row 1: expected"),
        ("uri,label\na.png,0\n,0\n", "row 2: expected"),
        ("uri,label,split\na.png,0,validation\n", "row 1: expected"),
        ("uri,label\na.png\n", "row 1: expected"),
        ("uri,category\na.png,cup\n", "no column 'label' (it has: uri, category)"),
        ("image,label\na.png,0\n", "no column 'uri'"),
        ("uri,label\n", "has no rows"),
        ("", "has no rows"),
        ("uri,label\na.png,0\na.png,0\n", "a.png occurs twice"),
        ('uri,label\n"a.png,0\n', "can't be read as a table"),
        ("uri,label\n\xff,0\n", "can't be read as a table"),
    ],
)
def test_a_list_is_checked(text: str, message: str, tmp_path: Path) -> None:
    write(str(tmp_path), "a.png")
    (tmp_path / "list.csv").write_bytes(text.encode("latin-1"))
    found = error(f"{tmp_path}/list.csv")
    assert message in found
    assert f"{tmp_path}/list.csv" in found


def test_parquet_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.parquet").write_bytes(b"rubbish")
    assert f"{tmp_path}/list.parquet can't be read as a table" in error(f"{tmp_path}/list.parquet")


def test_a_list_has_a_lists_extension(tmp_path: Path) -> None:
    assert "should end in .csv or .parquet" in error(f"{tmp_path}/list.txt", "list")


def masks_of(table: Any) -> list[list[str]]:
    """All masks of each row."""
    return [
        [*filter(None, [row["mask_uri"]]), *(row["more_mask_uris"] or [])]
        for row in table.to_pylist()
    ]


def test_a_mask_path_that_is_a_list_names_several_masks(root: str) -> None:
    write(root, "a.png", "m/0_mask.png", "m/1_mask.png")
    entry = {"img_path": "a.png", "mask_path": ["m/0_mask.png", "m/1_mask.png"], "anomaly": 1}
    write_text(root, "meta.json", json.dumps({"test": {"cup": [{**entry, "cls_name": "cup"}]}}))
    assert masks_of(read_dataset(root)) == [[f"{root}/m/0_mask.png", f"{root}/m/1_mask.png"]]


def test_rows_of_one_image_with_other_masks_are_one_image(root: str) -> None:
    write(root, "a.png", "0_mask.png", "1_mask.png", "b.png")
    lines = ["uri,label,mask_uri", "a.png,1,0_mask.png", "b.png,0,", "a.png,1,1_mask.png"]
    write_text(root, "list.csv", "\n".join(lines))
    table = read_dataset(f"{root}/list.csv")
    assert masks_of(table) == [[f"{root}/0_mask.png", f"{root}/1_mask.png"], []]
    write_text(root, "list.csv", "\n".join([*lines, "a.png,1,"]))
    assert "a.png occurs twice" in error(f"{root}/list.csv")


def test_a_cell_of_several_masks_is_read(tmp_path: Path) -> None:
    write(str(tmp_path), "a.png", "0_mask.png", "1_mask.png")
    frame = pd.DataFrame(
        {"uri": [b"a.png"], "label": [1.0], "mask_uri": [["0_mask.png", "1_mask.png"]]}
    )
    frame.to_parquet(tmp_path / "list.parquet")
    names = [f"file://{tmp_path}/{i}_mask.png" for i in (0, 1)]
    assert masks_of(read_dataset(f"{tmp_path}/list.parquet")) == [names]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_labels_that_pandas_keeps_as_floats_are_labels(suffix: str, tmp_path: Path) -> None:
    write(str(tmp_path), "a.png", "b.png")
    frame = pd.DataFrame({"uri": ["a.png", "b.png"], "label": [1.0, 0.0], "category": [7.0, 7.0]})
    path = tmp_path / f"list.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    assert read_dataset(str(path))["label"].to_pylist() == [1, 0]
    if suffix == "parquet":
        assert set(read_dataset(str(path))["category"].to_pylist()) == {"7"}


@pytest.mark.parametrize("column", ["mask", "mask_path", "class", "Split", "subset"])
def test_columns_that_look_meant_are_told(
    column: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(str(tmp_path), "a.png")
    write_text(str(tmp_path), "list.csv", f"uri,label,{column},lot\na.png,0,x,y\n")
    read_dataset(f"{tmp_path}/list.csv")
    assert f"the column {column!r} is not used" in caplog.text
    assert "'lot'" not in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uri,label\nfirst, second.png,0\n", "row 1: expected 2 values, found 3; put names"),
        ("uri,label,mask_uri\na.png,1\n", "row 1: expected 3 values, found 2"),
        ("uri,label,label\na.png,1,0\n", "has two columns 'label'"),
    ],
)
def test_rows_with_shifted_values_are_refused(text: str, message: str, tmp_path: Path) -> None:
    write(str(tmp_path), "a.png")
    write_text(str(tmp_path), "list.csv", text)
    assert message in error(f"{tmp_path}/list.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cls_name": 7}, "cls_name is 7 in the entry of 'a.png', and must be text"),
        ({"cls_name": None}, "cls_name is None"),
        ({"img_path": ["a.png"]}, "img_path is ['a.png']"),
        ({"img_path": None}, "img_path is None"),
        ({"mask_path": 7}, "mask_path is 7"),
        ({"mask_path": [None]}, "mask_path is None"),
        ({"anomaly": None}, "anomaly is None in the entry of 'a.png'"),
        ({"anomaly": [1]}, "anomaly is [1]"),
    ],
)
def test_odd_values_in_meta_json_are_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write(str(tmp_path), "a.png", "mask.png")
    entry = {"img_path": "a.png", "mask_path": None, "cls_name": "cup", "anomaly": 1.0}
    write_text(str(tmp_path), "meta.json", json.dumps({"test": {"cup": [entry]}}))
    assert rows(f"file://{tmp_path}") == [("a.png", None, 1, "cup", "test")]
    write_text(str(tmp_path), "meta.json", json.dumps({"test": {"cup": [entry | change]}}))
    assert message in error(str(tmp_path))


def test_a_list_may_name_frames_of_dicom_files(root: str) -> None:
    write_text(root, "scan.dcm", "a file of several frames")
    write_text(root, "list.csv", "uri,label\nscan.dcm#1,0\nscan.dcm#2,1\n")
    table = read_dataset(f"{root}/list.csv", split=None)
    assert table["uri"].to_pylist() == [f"{root}/scan.dcm#1", f"{root}/scan.dcm#2"]
    write_text(root, "list.csv", "uri,label\nscan.dcm#1,0\nother.dcm#2,1\n")
    assert "names " + f"{root}/other.dcm#2" in error(f"{root}/list.csv")
