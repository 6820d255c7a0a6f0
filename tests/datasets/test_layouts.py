"""A tiny replica of every layout, on a local folder and on an S3 server."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.datasets import DatasetError, read_dataset
from pipeline.storage import write_object
from tests.datasets.replica import mask, rows, write


class Case(NamedTuple):
    """The files of a replica and what they should be read as."""

    root: str
    """Name of the data set's folder."""
    layout: str
    """What it should be recognised as."""
    expected: list[tuple[str, str | None, int, str, str]]
    """Image, mask, label, category, split."""
    others: tuple[str, ...] = ()
    """Files that are no part of the data."""


CASES = [
    Case(
        "mvtec_anomaly_detection",
        "mvtec",
        [
            ("metal_nut/test/bent/000.png", "metal_nut/ground_truth/bent/000_mask.png", 1,
             "metal_nut", "test"),
            ("metal_nut/test/good/000.png", None, 0, "metal_nut", "test"),
            ("metal_nut/train/good/000.png", None, 0, "metal_nut", "train"),
            ("wood/test/hole/000.png", "wood/ground_truth/hole/000_mask.png", 1, "wood", "test"),
        ],
        ("metal_nut/license.txt", "readme.txt"),
    ),
    Case(
        "hazelnut",
        "mvtec",
        [
            ("test/colour/00.jpg", "ground_truth/colour/00.png", 1, "hazelnut", "test"),
            ("test/good/04.jpg", None, 0, "hazelnut", "test"),
        ],
    ),
    Case(
        "MPDD",
        "mpdd",
        [
            ("bracket_black/test/hole/000.png", "bracket_black/ground_truth/hole/000_mask.png", 1,
             "bracket_black", "test"),
            ("bracket_black/test/good/000.png", None, 0, "bracket_black", "test"),
        ],
    ),
    Case(
        "DTD-Synthetic",
        "dtd-synthetic",
        [
            ("Woven_001/test/bad/000.png", "Woven_001/ground_truth/bad/000_mask.png", 1,
             "Woven_001", "test"),
            ("Woven_001/test/good/000.png", None, 0, "Woven_001", "test"),
        ],
    ),
    Case(
        "BTech_Dataset_transformed",
        "btad",
        [
            ("01/test/ko/0000.bmp", "01/ground_truth/ko/0000.png", 1, "01", "test"),
            ("01/test/ok/0021.bmp", None, 0, "01", "test"),
            ("01/train/ok/0000.bmp", None, 0, "01", "train"),
            ("03/test/ko/0001.bmp", "03/ground_truth/ko/0001.bmp", 1, "03", "test"),
        ],
        ("01/test/ko/Thumbs.db",),
    ),
    Case(
        "VisA_20220922",
        "visa",
        [
            ("pipe_fryum/Data/Images/Anomaly/000.JPG", "pipe_fryum/Data/Masks/Anomaly/000.png", 1,
             "pipe_fryum", "test"),
            ("pipe_fryum/Data/Images/Normal/0000.JPG", None, 0, "pipe_fryum", "test"),
        ],
        ("pipe_fryum/image_anno.csv", "LICENSE-DATASET"),
    ),
    Case(
        "DAGM2007",
        "dagm",
        [
            ("Class1/Train/0001.PNG", None, 0, "Class1", "train"),
            ("Class1/Train/0576.PNG", "Class1/Train/Label/0576_label.PNG", 1, "Class1", "train"),
            ("Class10/Test/0001.PNG", "Class10/Test/Label/0001_label.PNG", 1, "Class10", "test"),
        ],
        ("Class1/Train/Label/notes.txt",),
    ),
    Case(
        "brain_tumor_dataset",
        "brainmri",
        [
            ("no/1 no.jpeg", None, 0, "brain_mri", "test"),
            ("yes/Y1.jpg", None, 1, "brain_mri", "test"),
        ],
    ),
    Case(
        "archive",
        "br35h",
        [
            ("no/no0.jpg", None, 0, "br35h", "test"),
            ("yes/y0.jpg", None, 1, "br35h", "test"),
        ],
        ("pred/pred0.jpg", "Br35H-Mask-RCNN/TRAIN/y1.jpg"),
    ),
    Case(
        "ISBI2016",
        "isic",
        [
            ("ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.jpg",
             "ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000003_Segmentation.png", 1,
             "isic", "test"),
            ("ISBI2016_ISIC_Part1_Training_Data/ISIC_0000000.jpg",
             "ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_0000000_Segmentation.png", 1,
             "isic", "train"),
        ],
    ),
    Case(
        "ISIC2017",
        "isic",
        [
            ("ISIC-2017_Test_v2_Data/ISIC_0012086.jpg",
             "ISIC-2017_Test_v2_Part1_GroundTruth/ISIC_0012086_segmentation.png", 1,
             "isic", "test"),
        ],
        ("ISIC-2017_Test_v2_Data/ISIC_0012086_superpixels.png",),
    ),
    Case(
        "CVC-ClinicDB",
        "clinicdb",
        [("Original/1.tif", "Ground Truth/1.tif", 1, "ClinicDB", "test")],
    ),
    Case(
        "clinicDB_png", "clinicdb", [("images/1.png", "masks/1.png", 1, "ClinicDB", "test")]
    ),
    Case(
        "CVC-ColonDB", "colondb", [("images/1.png", "masks/1.png", 1, "ColonDB", "test")]
    ),
    Case(
        "tn3k",
        "tn3k",
        [
            ("test-image/0000.jpg", "test-mask/0000.jpg", 1, "tn3k", "test"),
            ("trainval-image/0000.jpg", "trainval-mask/0000.jpg", 1, "tn3k", "train"),
        ],
        ("tn3k-trainval-fold0.json",),
    ),
    Case(
        "products",
        "folder",
        [
            ("cup/good/a.png", None, 0, "cup", "test"),
            ("cup/chip/a.jpg", "cup/masks/chip/a.png", 1, "cup", "test"),
            ("cup/chip/b.jpg", None, 1, "cup", "test"),
            ("lid/OK/a.webp", None, 0, "lid", "test"),
            ("lid/crack/a.webp", "lid/ground_truth/crack/a_mask.png", 1, "lid", "test"),
        ],
        ("cup/chip/notes.md", "cup/good/README"),
    ),
    Case(
        "spoon",
        "folder",
        [
            ("normal/a.png", None, 0, "spoon", "test"),
            ("bent/a.png", "masks/bent/a.png", 1, "spoon", "test"),
        ],
    ),
]  # fmt: skip


@pytest.fixture(params=["local", "s3"])
def parent(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty folder."""
    if request.param == "local":
        return f"file://{tmp_path}"
    return f"s3://{request.getfixturevalue('bucket')}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.root)
def test_a_layout_is_recognised_and_read(case: Case, parent: str) -> None:
    root = f"{parent}/{case.root}"
    write(root, *[path for row in case.expected for path in row[:2] if path])
    for path in case.others:
        write_object(f"{root}/{path}", b"not part of it")
    assert rows(root) == sorted(case.expected)
    assert rows(root, case.layout) == sorted(case.expected)
    assert rows(root, split="test") == sorted(row for row in case.expected if row[4] == "test")


WITH_MASKS = [case for case in CASES if case.layout != "dagm" and any(r[1] for r in case.expected)]


@pytest.mark.parametrize("case", WITH_MASKS, ids=lambda case: case.root)
def test_a_missing_mask_is_named_with_its_image(case: Case, tmp_path: Path) -> None:
    root = f"file://{tmp_path}/{case.root}"
    write(root, *[row[0] for row in case.expected])
    if case.layout == "folder":
        assert all(row[1] is None for row in rows(root))
        return
    image, mask_path = min((row[0], row[1]) for row in case.expected if row[1])
    with pytest.raises(DatasetError) as caught:
        read_dataset(root, split=None)
    message = str(caught.value).lower()
    assert f"{root}/{image} has no mask".lower() in message
    assert f" {mask_path.rsplit('.', 1)[0]}.*".lower() in message


def test_dagms_list_of_masks_tells_that_one_is_missing(parent: str) -> None:
    root = f"{parent}/DAGM2007"
    write(root, "Class1/Train/0575.PNG", "Class1/Train/0576.PNG")
    labels = f"{root}/Class1/Train/Label/Labels.txt"
    write_object(labels, b"1\n575\t0\t0575.PNG\t0\t0\n576\t1\t0576.PNG\t1\t0576_label.PNG\n")
    with pytest.raises(DatasetError, match=r"Labels.txt names Class1/Train/Label/0576_label.PNG"):
        read_dataset(root, split="train")
    write(root, "Class1/Train/Label/0576_label.PNG")
    assert [row[2] for row in rows(root)] == [0, 1]


def test_kolektors_masks_say_which_images_are_good(parent: str) -> None:
    root = f"{parent}/KolektorSDD"
    write(root, "kos01/Part0.jpg", "kos01/Part1.jpg", "kos01/Part1_label.bmp")
    write_object(f"{root}/kos01/Part0_label.bmp", mask("bmp", value=0))
    assert rows(root) == [
        ("kos01/Part0.jpg", None, 0, "SDD", "test"),
        ("kos01/Part1.jpg", "kos01/Part1_label.bmp", 1, "SDD", "test"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [(None, "Part0.jpg has no mask"), (b"rubbish", r"Part0_label.bmp: .*can't be decoded")],
)
def test_kolektors_masks_must_all_be_readable(
    data: bytes | None, message: str, tmp_path: Path
) -> None:
    write(str(tmp_path), "kos01/Part0.jpg")
    if data:
        (tmp_path / "kos01" / "Part0_label.bmp").write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        read_dataset(str(tmp_path))


def test_names_that_differ_in_case_only_keep_their_own_masks(tmp_path: Path) -> None:
    root = f"file://{tmp_path}/cup"
    images = ["test/chip/a.png", "test/chip/A.png"]
    masks = ["ground_truth/chip/a_mask.png", "ground_truth/chip/A_mask.png"]
    write(root, *images, *masks, "test/good/g.png")
    assert {row[0]: row[1] for row in rows(root)} == {
        **dict(zip(images, masks, strict=True)),
        "test/good/g.png": None,
    }


def test_a_bucket_can_be_a_data_set(bucket: str) -> None:
    root = f"s3://{bucket}"
    write(root, "cup/test/good/a.png", "cup/test/chip/b {c}.png", "cup/ground_truth/chip/b {c}.png")
    assert rows(root) == [
        ("cup/test/chip/b {c}.png", "cup/ground_truth/chip/b {c}.png", 1, "cup", "test"),
        ("cup/test/good/a.png", None, 0, "cup", "test"),
    ]
