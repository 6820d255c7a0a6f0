"""Which class an image has, and what a run says of classes before it begins."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config import ScoreConfig
from tests.bucket import put
from tests.inputs.building import build, categories, write


def test_the_first_folder_names_the_class(config: ScoreConfig) -> None:
    assert categories(config) == {
        "1.png": "bottle",
        "2.png": "bottle",
        "3.JPG": "metal-nut",
        "top.png": "object",
    }


@pytest.mark.parametrize(("level", "expected"), [(-1, "good"), (1, "good"), (0, "bottle")])
def test_a_folder_at_another_level_names_the_class(
    level: int, expected: str, config: ScoreConfig
) -> None:
    found = categories(replace(config, category_level=level))
    assert found["2.png"] == expected
    assert found["top.png"] == "object"


def test_a_level_that_a_key_does_not_have_is_an_object(config: ScoreConfig) -> None:
    assert categories(replace(config, category_level=1))["1.png"] == "object"
    assert categories(replace(config, category_level=-2))["1.png"] == "object"


def test_folders_without_a_name_name_no_class(bucket: str, config: ScoreConfig) -> None:
    put(bucket, {"a//1.png": b"x", "//2.png": b"x"})
    config = replace(config, input=(f"s3://{bucket}",), category_level=-1)
    assert categories(config) == {"1.png": "a", "2.png": "object"}


def test_dots_are_no_folders_that_name_a_class(bucket: str, config: ScoreConfig) -> None:
    put(bucket, {"in/./a/./1.png": b"x", "in/../2.png": b"x", "in/b/../3.png": b"x"})
    config = replace(config, input=(f"s3://{bucket}/in",))
    expected = {"1.png": "a", "2.png": "object", "3.png": "b"}
    assert categories(config) == categories(replace(config, category_level=-1)) == expected
    regex = replace(config, category_regex=r"/in/(?P<category>[^/]+)/")
    assert categories(regex) == {"1.png": ".", "2.png": "..", "3.png": "b"}


def test_a_constant_names_all_classes(config: ScoreConfig) -> None:
    assert set(categories(replace(config, category="metal nut")).values()) == {"metal nut"}


def test_an_expression_names_the_class_or_the_row_says_that_it_does_not(
    config: ScoreConfig,
) -> None:
    config = replace(config, category_regex=r"/images/(?P<category>[^/]+)/")
    _, rows = build(config)
    found = {row["uri"].rsplit("/", 1)[1]: (row["category"], row["error"]) for row in rows}
    assert found == {
        "1.png": ("bottle", None),
        "2.png": ("bottle", None),
        "3.JPG": ("metal-nut", None),
        "top.png": (None, "no_category"),
    }
    (failed,) = (row for row in rows if row["error"])
    assert failed["error_message"]


def test_an_expression_whose_group_is_empty_or_unused_gives_no_category(
    config: ScoreConfig,
) -> None:
    for expression in (r"(?P<category>)", r"images|(?P<category>never)"):
        _, rows = build(replace(config, category_regex=expression))
        assert {row["error"] for row in rows} == {"no_category"}


def test_a_list_may_ask_for_one_image_under_two_classes(
    config: ScoreConfig, images: Path, tmp_path: Path
) -> None:
    uri = images / "top.png"
    listing = f"uri,category\n{uri},cable\n{uri},bottle\n{uri},cable\n"
    source = write(tmp_path / "list.csv", listing.encode())
    manifest, rows = build(replace(config, input=(str(source),)))
    assert sorted(row["category"] for row in rows) == ["bottle", "cable"]
    assert manifest.listed == 2


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_empty_cell_of_a_list_names_no_class(
    suffix: str, config: ScoreConfig, images: Path, tmp_path: Path
) -> None:
    uris = [str(images / "bottle" / name) for name in ("1.png", "good/2.png")]
    frame = pd.DataFrame({"uri": uris, "category": ["cable", None]})
    source = str(tmp_path / f"list.{suffix}")
    frame.to_csv(source, index=False) if suffix == "csv" else frame.to_parquet(source)
    _, rows = build(replace(config, input=(source,)))
    found = {(row["category"], row["error"]) for row in rows}
    assert found == {("cable", None), (None, "no_category")}


def test_a_folder_of_blanks_names_no_class(config: ScoreConfig, tmp_path: Path) -> None:
    write(tmp_path / "blank" / " " / "1.png")
    _, rows = build(replace(config, input=(str(tmp_path / "blank"),)))
    assert [row["category"] for row in rows] == ["object"]
    regex = r"blank/(?P<category>[^/]+)/"
    _, rows = build(replace(config, input=(str(tmp_path / "blank"),), category_regex=regex))
    assert [row["error"] for row in rows] == ["no_category"]


def test_of_a_class_three_examples_are_shown(config: ScoreConfig) -> None:
    for i in range(5):
        write(Path(config.input[0]) / f"bottle/{i}.png")
    [line] = build(replace(config, category="pin", include=("*?.png",)))[0].summary()
    assert re.fullmatch(r"  pin +7  (\w+\.png, ){3}\.\.\.", line)


def test_what_is_to_be_scored_is_shown_by_class(config: ScoreConfig) -> None:
    for i in range(12):
        write(Path(config.input[0]) / f"z{i:02d}/1.png")
    made, _ = build(config)
    lines = made.summary()
    assert len(lines) == 11
    assert lines[-1].split()[1] == "others"
    counts = [int(line[28:].split()[0]) for line in lines]
    assert sum(counts) == made.pending == 16


def test_images_in_no_folder_are_remarked_unless_they_have_a_class(config: ScoreConfig) -> None:
    [remark] = build(config)[0].remarks()
    assert (
        'images lie in no folder below the prefix, so the model is told that they show "object"'
        in (remark)
    )
    assert build(replace(config, category="object", output=f"{config.output}2"))[0].remarks() == []


def test_objects_without_a_class_are_counted_as_such(config: ScoreConfig) -> None:
    made, _ = build(replace(config, category_regex="(?P<category>bottle)"))
    assert made.categories == {"bottle": 2, None: 2}
    assert any(line.split()[:4] == ["no", "class", "name", "2"] for line in made.summary())
