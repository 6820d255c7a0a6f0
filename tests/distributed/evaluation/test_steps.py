"""Steps of protocols: which images are chosen, how many, and what is said where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.config import AS_IS, EvaluateConfig
from pipeline.distributed.evaluation.steps import Step, choose_good, choose_mix, plan
from pipeline.errors import CannotRunError


def images(
    category: str = "nut", good: int = 0, abnormal: int = 0, split: str = "test"
) -> pd.DataFrame:
    """Labelled images of one category."""
    labels = [0] * good + [1] * abnormal
    uris = [f"s3://b/{category}/{split}/{i}.png" for i in range(len(labels))]
    return pd.DataFrame({"uri": uris, "category": category, "label": labels})


def together(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def counts(chosen: pd.DataFrame, category: str = "nut") -> tuple[int, int]:
    """Good and abnormal images of a category."""
    labels = chosen.label[chosen.category == category]
    return int((labels == 0).sum()), int(labels.sum())


def config(**changes: Any) -> EvaluateConfig:
    return EvaluateConfig(data=("mine",), output="out", **changes)


def test_few_shot_takes_so_many_different_good_images_of_each_category() -> None:
    there = together(images("nut", 9, 5), images("bolt", 4))
    chosen = choose_good(there, 4, seed=0)
    assert counts(chosen) == counts(chosen, "bolt") == (4, 0)
    assert chosen.uri.is_unique
    assert set(chosen.uri) <= set(there.uri)
    assert counts(choose_good(there, 5, seed=0), "bolt") == (0, 0)


def test_a_choice_is_repeatable_whatever_the_order_and_differs_between_seeds() -> None:
    there = images(good=30)
    choices = [set(choose_good(there, 4, seed).uri) for seed in range(3)]
    assert set(choose_good(there[::-1], 4, seed=0).uri) == choices[0]
    assert len({*map(frozenset, choices)}) == 3
    elsewhere = there.assign(uri=there.uri.str.replace("s3://b/", "/data/"))
    assert choose_good(elsewhere, 4, seed=0).index.equals(choose_good(there, 4, seed=0).index)
    assert choices[0] < set(choose_good(there, 8, seed=0).uri)


@pytest.mark.parametrize(
    ("there", "percent", "expected"),
    [
        ((40, 70), 0, (40, 0)),
        ((40, 70), 5, (40, 2)),
        ((40, 70), 20, (40, 10)),
        ((40, 70), 40, (40, 27)),
        ((40, 10), 40, (15, 10)),  # all ten, and so many good ones that they are 40 %
        ((40, 0), 20, (0, 0)),
        ((0, 40), 20, (0, 0)),
    ],
)
def test_a_mix_has_the_share_of_abnormal_images(
    there: tuple[int, int], percent: float, expected: tuple[int, int]
) -> None:
    chosen = choose_mix(images("nut", *there), percent, seed=0)
    assert counts(chosen) == expected
    if sum(expected):
        assert expected[1] / sum(expected) == pytest.approx(percent / 100, abs=0.01)


def test_mixes_of_different_seeds_hold_other_abnormal_images() -> None:
    there = images(good=20, abnormal=30)
    first, again, other = (choose_mix(there, 20, seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert set(first.uri[first.label == 0]) == set(other.uri[other.label == 0])
    assert set(first.uri) != set(other.uri)


def test_steps_follow_the_flags_and_only_the_training_split_gives_known_good_images() -> None:
    measured, training = images(good=8, abnormal=8), images(good=30, abnormal=9, split="train")
    steps = plan(
        config(few_shot=(1, 2, 2), unlabelled=(AS_IS, 20.0), seeds=2), "mine", measured, training
    )
    assert [step.name for step in steps] == [
        *("few-shot-1-seed-0", "few-shot-1-seed-1", "few-shot-2-seed-0", "few-shot-2-seed-1"),
        *("unlabelled-as-is", "unlabelled-20-seed-0", "unlabelled-20-seed-1"),
    ]
    for step in steps[:4]:
        assert set(step.images.uri) <= set(training.uri[training.label == 0])
    for step in steps[4:]:
        assert set(step.images.uri) <= set(measured.uri)
    assert steps[4].columns("nut") | {"amount": None} == {
        "protocol": "unlabelled",
        "amount": None,
        "seed": None,
        "chosen": 16,
        "chosen_abnormal": 8,
    }
    assert steps[5].columns("nut")["chosen_abnormal"] == 2


def test_choices_that_are_the_same_images_are_one_step() -> None:
    measured = images(good=8, abnormal=2)
    steps = plan(config(few_shot=(2,), unlabelled=(0.0, 20.0)), "mine", measured, images(good=2))
    assert [step.name for step in steps] == [
        *("few-shot-2-seed-0", "unlabelled-0-seed-0", "unlabelled-20-seed-0")
    ]


def test_a_category_with_too_few_images_is_named() -> None:
    measured = together(images("nut", 4, 4), images("bolt", 4, 4))
    training = together(images("nut", 8), images("bolt", 3, 1))
    (step,) = plan(config(few_shot=(4,), seeds=1), "mine", measured, training)
    assert step.short == {"bolt": "images to choose from: 3 good, 1 abnormal"}
    assert step.columns("bolt")["chosen"] == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"few_shot": (1,)},
            "no category of mine has .* --few-shot 1: so many good ones in the training split",
        ),
        (
            {"unlabelled": (20.0,)},
            "--unlabelled 20: good and abnormal ones among those that are measured",
        ),
    ],
)
def test_a_step_without_any_image_is_refused_with_a_remedy(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CannotRunError, match=words) as refused:
        plan(config(**changes), "mine", images(good=9), images())
    assert "--unlabelled as-is" in str(refused.value)


def test_a_steps_name_is_a_folder() -> None:
    nothing = images()
    assert Step("unlabelled", 2.5, 0, nothing).name == "unlabelled-2.5-seed-0"
    assert Step("unlabelled", np.nan, None, nothing).name == "unlabelled-as-is"
