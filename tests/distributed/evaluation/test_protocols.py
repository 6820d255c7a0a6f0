"""Protocols on a real local Ray: production lines measured beside images of their own."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.config import EvaluateConfig
from pipeline.distributed.evaluation.job import Evaluation, evaluate
from pipeline.errors import CannotRunError
from pipeline.evaluation import METRICS
from pipeline.evaluation.protocols import protocol_summary
from pipeline.identity import base_of, references_of
from pipeline.synthetic import generate_line
from tests.docs.snippets import ROOT

SIZE = 192  # the small model's


def write_line(root: Path, category: str, train: int, good: int, abnormal: int) -> None:
    """One production line of capsules in MVTec AD's layout."""
    defects = ["train/good"] * train + ["test/good"] * good + ["test/stain"] * abnormal
    for number, folder in enumerate(defects):
        defect = folder.rpartition("/")[2]
        sample = generate_line("capsule", 3, number, defect, size=SIZE)
        save(root / category / folder / f"{number}.png", sample.image)
        if defect != "good":
            mask = (sample.mask * 255).astype(np.uint8)
            save(root / category / f"ground_truth/{defect}/{number}_mask.png", mask)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())


@pytest.fixture(scope="module")
def on_lines(tmp_path_factory: pytest.TempPathFactory) -> EvaluateConfig:
    """Two lines with the small model; the second has too few images for any protocol."""
    folder = tmp_path_factory.mktemp("protocols")
    write_line(folder / "lines", "capsule", train=4, good=8, abnormal=2)
    write_line(folder / "lines", "pill", train=1, good=2, abnormal=1)
    small = ROOT / "pipeline" / "models" / "small"
    return EvaluateConfig(
        data=(str(folder / "lines"),),
        output=str(folder / "out"),
        backbone=str(small / "clip.json"),
        backbone_weights=str(small / "clip.safetensors"),
        checkpoint=str(small / "adaclip.safetensors"),
        image_size=SIZE,
        sigma=1.5,
        few_shot=(2,),
        unlabelled=(20.0,),
        seeds=2,
    )


@pytest.fixture(scope="module")
def evaluation(on_lines: EvaluateConfig, local_ray: None) -> Evaluation:
    return evaluate(on_lines)


def test_every_category_is_measured_beside_every_choice(evaluation: Evaluation) -> None:
    table = evaluation.protocols
    assert evaluation.errors.empty
    steps = [("zero-shot", 0), ("few-shot", 0), ("few-shot", 1), ("unlabelled", 0)]
    found = zip(table.protocol, table.seed.fillna(0), table.category, strict=True)
    assert list(found) == [(*step, name) for step in steps for name in ("capsule", "pill")]
    capsule = table[table.category == "capsule"]
    assert capsule.chosen.tolist()[1:] == [2, 2, 10]
    assert capsule.chosen_abnormal.tolist()[1:] == [0, 0, 2]
    assert capsule.model.map(base_of).nunique() == 1
    assert capsule.model.map(references_of).nunique() == 3
    assert capsule[list(METRICS)].notna().all(axis=None)


def test_a_category_without_references_keeps_its_zero_shot_score(evaluation: Evaluation) -> None:
    table = evaluation.protocols
    pill = table[table.category == "pill"]
    assert pill.model.nunique() == 1
    assert (pill[list(METRICS)] == pill[list(METRICS)].iloc[0]).all(axis=None)
    assert pill.reason.tolist()[:3] == [*("", *["images to choose from: 1 good, 0 abnormal"] * 2)]
    assert "2 images are too few" in pill.reason.iloc[3]
    assert (table.reason[table.category == "capsule"] == "").all()


def test_mean_and_spread_are_of_the_choices(evaluation: Evaluation) -> None:
    summary = protocol_summary(evaluation.protocols).set_index("protocol")
    assert summary.choices.to_dict() == {"zero-shot": 1, "few-shot": 2, "unlabelled": 1}
    few = evaluation.protocols[evaluation.protocols.protocol == "few-shot"]
    values = few.groupby("seed").pixel_ap.mean()
    assert values.nunique() == 2
    assert summary.pixel_ap["few-shot"] == pytest.approx(values.mean())
    assert summary.pixel_ap_std["few-shot"] == pytest.approx(values.std())
    assert np.isnan(summary.pixel_ap_std["zero-shot"])


def test_figures_are_those_of_an_evaluation_with_the_same_references(
    on_lines: EvaluateConfig, evaluation: Evaluation, told: list[str]
) -> None:
    references = f"{on_lines.output}/protocols/lines/few-shot-2-seed-1/references"
    direct = evaluate(replace(on_lines, few_shot=(), unlabelled=(), references=references))
    assert any("nothing to score" in line for line in told)
    assert direct.protocols.empty
    found = evaluation.protocols
    beside = found[(found.protocol == "few-shot") & (found.seed == 1)].set_index("category")
    expected = direct.table.set_index("category").loc[["capsule", "pill"]]
    pd.testing.assert_frame_equal(beside[[*METRICS, "model"]], expected[[*METRICS, "model"]])


def test_a_data_set_without_a_training_split_is_refused_before_anything_is_scored(
    on_lines: EvaluateConfig, local_ray: None, tmp_path: Path
) -> None:
    write_line(tmp_path / "tests", "capsule", train=0, good=1, abnormal=1)
    output = tmp_path / "out"
    with pytest.raises(
        CannotRunError, match=r"no category of tests .* --few-shot 2: .*training split"
    ):
        evaluate(replace(on_lines, data=(str(tmp_path / "tests"),), output=str(output)))
    assert not output.exists()
