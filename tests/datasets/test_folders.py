"""Labels and masks by folders, where they lie deeper or elsewhere than usual."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.datasets import DatasetError, read_dataset
from tests.datasets.replica import rows, write


@pytest.fixture
def root(tmp_path: Path) -> str:
    """The URI of a folder that is not there yet."""
    return f"file://{tmp_path}/set"


def labels(root: str, layout: str = "auto") -> dict[str, tuple[int, str]]:
    """Label and category of each image."""
    return {str(row[0]): (int(str(row[2])), str(row[3])) for row in rows(root, layout)}


def masks(root: str, layout: str = "auto") -> dict[str, list[str]]:
    """The masks of each abnormal image."""
    return {
        row["uri"].removeprefix(f"{root}/"): [
            mask.removeprefix(f"{root}/")
            for mask in filter(None, [row["mask_uri"], *(row["more_mask_uris"] or [])])
        ]
        for row in read_dataset(root, layout, split=None).to_pylist()
        if row["label"]
    }


def error(root: str, layout: str = "auto") -> str:
    with pytest.raises(DatasetError) as caught:
        read_dataset(root, layout, split=None)
    return str(caught.value)


def test_good_images_one_folder_deeper_are_good(root: str) -> None:
    write(root, "good/cam1/a.jpg", "good/cam2/b.jpg", "bad/cam1/c.jpg", "bad/d.jpg")
    assert labels(root) == {
        "good/cam1/a.jpg": (0, "set"),
        "good/cam2/b.jpg": (0, "set"),
        "bad/cam1/c.jpg": (1, "set"),
        "bad/d.jpg": (1, "set"),
    }


def test_folders_below_a_categorys_label_change_nothing(root: str) -> None:
    write(root, "bolt/good/2026-05/x.png", "bolt/bent/a/b/y.png", "nut/OK/z.png", "lid/chip/w.png")
    assert labels(root) == {
        "bolt/good/2026-05/x.png": (0, "bolt"),
        "bolt/bent/a/b/y.png": (1, "bolt"),
        "nut/OK/z.png": (0, "nut"),
        "lid/chip/w.png": (1, "lid"),
    }


@pytest.mark.parametrize("defect", ["bad/lot7", "defect/kind1"])
def test_test_images_one_folder_deeper_are_not_left_out(root: str, defect: str) -> None:
    write(root, "test/good/a.png", f"test/{defect}/x.png")
    assert f"test/{defect}/x.png has no mask" in error(root)
    write(root, f"ground_truth/{defect}/x_mask.png")
    assert labels(root) == {"test/good/a.png": (0, "set"), f"test/{defect}/x.png": (1, "set")}
    assert masks(root) == {f"test/{defect}/x.png": [f"ground_truth/{defect}/x_mask.png"]}


MASKS_BESIDE_IMAGES = {
    "a folder of masks": ("OK/0.png", "NG/1.png", "MASK/1.png"),
    "a folder for each defect": ("ok/0.png", "ng/1.png", "Ground Truth/ng/1_gt.png"),
    "the same folder": ("good/0.png", "bad/1.png", "bad/1_mask.png"),
    "the same folder, black for good": (
        "good/0.png",
        "bad/1.png",
        "bad/1-mask.png",
        "good/0-mask.png",
    ),
    "a folder below the label": ("good/0.png", "bad/1.png", "bad/masks/1.png"),
    "rgb and gt below the label": (
        "good/rgb/0.png",
        "bad/rgb/1.png",
        "bad/gt/1.png",
        "good/gt/0.png",
    ),
    "rgb and gt above the label": ("rgb/good/0.png", "rgb/bad/1.png", "gt/bad/1.png"),
    "rgb beside other channels": (
        "good/rgb/0.png",
        "bad/rgb/1.png",
        "bad/gt/1.png",
        "bad/xyz/1.tiff",
    ),
}


@pytest.mark.parametrize("files", MASKS_BESIDE_IMAGES.values(), ids=MASKS_BESIDE_IMAGES)
def test_masks_are_masks_and_no_images(files: tuple[str, ...], root: str) -> None:
    write(root, *files)
    assert labels(root) == {files[0]: (0, "set"), files[1]: (1, "set")}
    assert masks(root) == {files[1]: [files[2]]}


def test_several_masks_in_a_folder_called_as_the_image_are_all_its(root: str) -> None:
    """MVTec LOCO's folders."""
    write(root, "test/good/000.png", "validation/good/000.png", "test/logical/000.png")
    names = [f"ground_truth/logical/000/{i:03}.png" for i in range(2)]
    write(root, *names)
    assert masks(root) == {"test/logical/000.png": names}
    assert {str(row[0]): row[4] for row in rows(root)}["validation/good/000.png"] == "train"


def test_the_generic_layout_takes_no_split_for_a_class(root: str) -> None:
    write(root, "train/good/0.png", "test/good/1.png", "test/bent/2.png", "ground_truth/bent/2.png")
    expected = [
        ("test/bent/2.png", "ground_truth/bent/2.png", 1, "set", "test"),
        ("test/good/1.png", None, 0, "set", "test"),
        ("train/good/0.png", None, 0, "set", "train"),
    ]
    assert rows(root, "folder") == rows(root, "mvtec") == expected
    assert {category for _, category in labels(f"{root}/test", "folder").values()} == {"set"}


def test_several_categories_keep_their_names_in_the_generic_layout(root: str) -> None:
    write(root, "cup/train/good/0.png", "cup/test/good/0.png", "lid/test/chip/0.png")
    assert {category for _, category in labels(root, "folder").values()} == {"cup", "lid"}


CONTRADICTIONS = {
    "good below bad": (("good/a.png", "bad/ok/b.png"), "different depths"),
    "bad below good": (("good/a.png", "good/bad/b.png"), "contradict each other"),
    "labels at two depths": (("good/a.png", "bolt/good/b.png"), "different depths"),
    "a bad category": (("bad/good/a.png", "nut/good/b.png"), "contradict each other"),
    "two categories above": (("a/b/good/a.png", "a/b/bad/b.png"), "2 folders stand above 'good'"),
    "a mask of two images": (("OK/0.png", "NG/1.png", "dent/1.png", "MASK/1.png"), "fits"),
    "a mask without its image": (("good/a.png", "bad/b_mask.png"), "is called a mask"),
}


@pytest.mark.parametrize(("files", "words"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_folders_that_contradict_each_other_are_refused_by_name(
    files: tuple[str, ...], words: str, root: str
) -> None:
    write(root, *files)
    message = error(root, "folder")
    assert words in message
    assert any(f"{root}/{file}" in message for file in files)
    assert "list (.csv)" in message


def test_what_is_left_out_is_counted_aloud(root: str, caplog: pytest.LogCaptureFixture) -> None:
    write(root, "cup/good/a.png", "cup/chip/b.png", "cup/logo.png", "cup/unknown/c.png")
    write(root, "cup/masks/chip/none.png")
    assert len(rows(root)) == 2
    assert f"{root}: 2 image files are left out, such as {root}/" in caplog.text
    assert "masks/chip/none.png: masks that belong to no image" in caplog.text


def test_what_another_layout_leaves_out_is_counted_aloud(
    root: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(root, "yes/Y1.jpg", "no/1 no.jpeg", "pred/more/p.jpg")
    assert len(rows(root)) == 2
    assert "1 image files are left out, such as" in caplog.text


def test_an_image_that_is_called_a_label_is_an_image(root: str) -> None:
    write(root, "good/bottle_label.png", "bad/bottle_label.png")
    assert labels(root) == {
        "good/bottle_label.png": (0, "set"),
        "bad/bottle_label.png": (1, "set"),
    }
