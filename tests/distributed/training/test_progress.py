"""The lines that a training run says."""

from __future__ import annotations

from pipeline.config import TrainConfig
from pipeline.distributed.training.progress import Progress
from pipeline.distributed.training.state import EpochRecord, StepRecord


def progress() -> Progress:
    """Two epochs of 25 steps of four images, the last of which is short."""
    return Progress(TrainConfig(data=("data",), output="out", epochs=2), 98, 4)


def test_the_opening_tells_the_amount_of_work() -> None:
    line = progress().opening(0, 11)
    assert line == "training on 98 images, 11 held out: 2 epochs of 25 steps of 4 images"
    assert progress().opening(30, 0).endswith("; going on after step 30")


def test_a_line_has_loss_gradient_rate_and_time_left() -> None:
    told = progress()
    assert not told.has_begun
    for step in range(1, 31):
        told.add(StepRecord(step, 1 + (step - 1) // 25, 0.5, 0.2, 0.2, 0.1, 12.345, 4, 2.0))
    assert told.line() == (
        "epoch 2/2 · step 30 / 50 · loss 0.5000 · gradient 12.3 · 2 images/s · 40 s left"
    )


def test_an_epoch_ends_with_its_losses() -> None:
    record = EpochRecord(1, 25, 0.5, 0.7, 0.3, 0.2, 0.2)
    assert Progress.epoch_line(record) == (
        "epoch 1 done: training loss 0.5000, held-out loss 0.7000"
    )
    measured = record._replace(
        image_auroc=0.9, image_auroc_spread=0.05, pixel_ap=0.25, pixel_ap_spread=0.1
    )
    assert Progress.epoch_line(measured).endswith(
        ", held-out loss 0.7000, image AUROC 90.0 ± 5.0, pixel AP 25.0 ± 10.0"
    )
    without = record._replace(held_out_loss=None)
    assert Progress.epoch_line(without) == "epoch 1 done: training loss 0.5000"


def test_a_run_that_gets_no_better_says_so() -> None:
    told = Progress(TrainConfig(data=("data",), output="out", patience=2), 98, 4)
    assert told.stopped_line(3) == (
        "stopped after epoch 3 of 5: none of the last 2 lowered the held-out loss (--patience)"
    )
