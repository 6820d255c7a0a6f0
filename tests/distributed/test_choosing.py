"""One model is chosen, or the message tells which there are; references never mix."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.distributed.choosing import choose_identity, rows_of
from pipeline.errors import CannotRunError
from pipeline.identity import ModelIdentity


def rows(*found: tuple[str, str | None]) -> pd.DataFrame:
    """Score rows of models and categories, each newer than the one before."""
    frame = pd.DataFrame(found, columns=["model", "category"]).astype("category")
    return frame.assign(scored_at=pd.date_range("2026-01-01", periods=len(found)))


ROWS = rows(("vit-b", "nut"), ("vit-a", "nut"), ("vit-b", "bolt"))


def chosen(found: pd.DataFrame, wanted: str | None = None) -> ModelIdentity:
    return choose_identity(found, wanted, found="s3://b holds scores of", none="score them first")


def test_the_only_model_need_not_be_named() -> None:
    assert chosen(ROWS[ROWS.model == "vit-b"]) == ModelIdentity("vit-b")


def test_a_part_of_its_name_chooses_one_of_several() -> None:
    assert chosen(ROWS, "-a") == ModelIdentity("vit-a")


@pytest.mark.parametrize("wanted", [None, "vit", "resnet"])
def test_several_are_listed(wanted: str | None) -> None:
    message = r"s3://b holds scores of 2 models: vit-a \(1 images\), vit-b \(2 images\); choose"
    with pytest.raises(CannotRunError, match=message):
        chosen(ROWS, wanted)


def test_where_there_is_none_the_remedy_is_told() -> None:
    with pytest.raises(CannotRunError, match="of 0 models; score them first"):
        chosen(ROWS[:0])


REFERRED = rows(
    ("m", "nut"),
    ("m", "bolt"),
    ("m+refs-1", "bolt"),
    ("m+refs-2", "bolt"),
    ("m+refs-9", "cap"),
    ("m", "cap"),
    ("m", None),
)


def test_every_category_has_the_references_of_its_newest_row() -> None:
    identity = chosen(REFERRED)
    assert identity == ModelIdentity("m", {"bolt": "2"})
    assert rows_of(REFERRED, identity).index.tolist() == [0, 3, 5, 6], "one set for each category"


@pytest.mark.parametrize("wanted", ["m+refs-1", "refs-1"])
def test_references_that_are_named_are_their_categorys(wanted: str) -> None:
    assert chosen(REFERRED, wanted) == ModelIdentity("m", {"bolt": "1"})
    assert chosen(REFERRED, "m+refs-9") == ModelIdentity("m", {"bolt": "2", "cap": "9"})


def test_a_fingerprint_alone_means_no_references_in_particular() -> None:
    assert chosen(REFERRED, "m") == chosen(REFERRED)
