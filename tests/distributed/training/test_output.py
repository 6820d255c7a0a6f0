"""What a training run leaves for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config import TrainConfig
from pipeline.datasets.auxiliary import AUXILIARY_SCHEMA
from pipeline.distributed.training.messages import EpochRecord, Pictures, StepRecord
from pipeline.distributed.training.output import EventLog, model_card, write_metrics
from pipeline.distributed.training.state import TrainingState

PARTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
STEPS = [StepRecord(i, 1, 3.0 / i, 1.0 / i, 1.0 / i, 1.0 / i, 0.5, 4, 0.25, *PARTS) for i in (1, 2)]


def state(held_out: list[float | None], best: int | None = None) -> TrainingState:
    epochs = [
        EpochRecord(i, 2 * i, 2.0, loss, loss and 0.1, loss and 0.2, loss and 0.3)
        for i, loss in enumerate(held_out, start=1)
    ]
    return TrainingState(step=len(STEPS), steps=list(STEPS), epochs=epochs, best_epoch=best)


def card(state: TrainingState, remarks: Sequence[str] = (), **settings: Any) -> str:
    rows = [
        {
            "uri": f"s3://bucket/{i}.png",
            "mask_uri": None,
            "label": i % 2,
            "category": f"part {i % 3}",
            "split": "test",
            "dataset": "mine",
            "mosaic_rate": 0.0,
            "held_out": i == 0,
        }
        for i in range(6)
    ]
    return model_card(
        TrainConfig(data=("mine=s3://bucket",), output="s3://models/mine/", **settings),
        pa.Table.from_pylist(rows, schema=AUXILIARY_SCHEMA),
        state,
        model="tiny-518-float32-0123",
        num_learnable=12_345,
        hardware="2 x CPU",
        remarks=remarks,
    )


def test_metrics_are_plain_csv(tmp_path: Path) -> None:
    write_metrics(f"file://{tmp_path}", state([None]))
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0].startswith("step,epoch,loss,score_loss,focal,dice,grad_norm,images,seconds,")
    assert lines[0].split(",")[9] == "grad_visual_prompts"
    assert lines[1] == "1,1,3.0,1.0,1.0,1.0,0.5,4,0.25,0.1,0.2,0.3,0.4,0.5,0.6"
    epochs = (tmp_path / "epochs.csv").read_text().splitlines()
    assert epochs[1] == "1,2,2.0" + "," * (epochs[0].count(",") - 2)


def test_logs_grow_in_place_on_a_local_disk(tmp_path: Path) -> None:
    log = EventLog(f"file://{tmp_path}", first_step=1)
    pictures = Pictures(2, [np.zeros((8, 24, 3), np.uint8)])
    for record in (*STEPS, state([0.6]).epochs[0], pictures):
        log.add(record)
    log.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    written = file.read_bytes()
    for name in (b"train/loss", b"train/grad_norm", b"epoch/held_out_loss", b"held_out/0"):
        assert name in written


def test_the_card_tells_data_choice_and_how_to_load() -> None:
    shown = card(state([0.5, 0.4, 0.6], best=2))
    assert "12,345 learned weights" in shown
    assert "--checkpoint s3://models/mine/adaclip.pth" in shown
    assert "| mine | 3 | 3 | 3 | 1 | 0 | part 0, part 1, part 2 |" in shown
    assert "Epoch 2 of 3 was kept (held-out loss 0.4000); it has the lowest loss" in shown
    assert "| 3 | 2.0000 | 0.6000 | 0.1000 | 0.2000 | 0.3000 |  |  |  |  |" in shown
    assert "Scores are not calibrated" in shown
    assert "non-commercial" in shown
    assert "| torch |" in shown


def test_the_card_tells_what_the_kept_weights_make_of_held_out_images() -> None:
    made = state([0.5, 0.4], best=2)
    made.epochs[1] = made.epochs[1]._replace(
        image_auroc=0.912,
        image_auroc_spread=0.034,
        calibration_error=0.25,
        score_scale=0.125,
        score_shift=-1.5,
        calibrated_error=0.0625,
    )
    shown = card(made)
    assert "| 2 | 2.0000 | 0.4000 | 0.1000 | 0.2000 | 0.3000 | 91.2 ± 3.4 |  |  |  |" in shown
    assert "their logit times 0.125 plus -1.5 is a probability" in shown
    assert "from 0.250 to 0.062" in shown


def test_the_card_tells_what_is_odd_about_the_data() -> None:
    assert "odd" not in card(state([None]))
    shown = card(state([None]), remarks=["3 images are in both splits", "a mask is empty"])
    assert (
        "first step:\n\n- 3 images are in both splits.\n- A mask is empty.\n\nWeights may" in shown
    )


@pytest.mark.parametrize(("held_out", "select"), [([None, None], "best"), ([0.3, 0.4], "last")])
def test_the_last_epoch_counts_where_none_is_chosen(
    held_out: list[float | None], select: Any
) -> None:
    shown = card(state(held_out, best=held_out[0] and 1), select=select)
    assert "Epoch 2 of 2 was kept" in shown
    assert "the last one counts" in shown


def test_the_card_names_the_settings_that_loading_needs() -> None:
    shown = card(state([None]), use_fusion=False, prompt_kind="static", image_size=224)
    line = next(line for line in shown.splitlines() if "--no-use-fusion" in line)
    assert "--image-size 224" in line
    assert "--prompt-kind static" in line
    assert "--prompt-depth" not in line
