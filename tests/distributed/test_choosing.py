"""One model is chosen, or the message tells which there are."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.distributed.choosing import choose_model
from pipeline.distributed.errors import CannotRunError

ROWS = pd.Series(["vit-b", "vit-a", "vit-b"], dtype="category")


def chosen(models: pd.Series, wanted: str | None) -> str:
    return choose_model(models, wanted, found="s3://b holds scores of", none="score them first")


def test_the_only_model_need_not_be_named() -> None:
    assert chosen(ROWS[ROWS == "vit-b"].astype(str), None) == "vit-b"


def test_a_part_of_its_name_chooses_one_of_several() -> None:
    assert chosen(ROWS, "-a") == "vit-a"


@pytest.mark.parametrize("wanted", [None, "vit", "resnet"])
def test_several_are_listed(wanted: str | None) -> None:
    message = r"s3://b holds scores of 2 models: vit-a \(1 images\), vit-b \(2 images\); choose"
    with pytest.raises(CannotRunError, match=message):
        chosen(ROWS, wanted)


def test_where_there_is_none_the_remedy_is_told() -> None:
    with pytest.raises(CannotRunError, match="of 0 models; score them first"):
        chosen(ROWS[:0].astype(str), None)
