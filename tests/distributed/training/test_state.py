"""The checkpoint that a run goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.distributed.training.state import (
    EpochRecord,
    StepRecord,
    TrainingState,
    load_state,
    save_state,
)
from pipeline.models.training import make_optimizer, training_step
from pipeline.storage import StorageError
from tests import golden

SIZE = 56


def step_record(step: int) -> StepRecord:
    return StepRecord(step, 1, 3.0, 1.0, 1.0, 1.0, 0.5, 4, 0.1)


def epoch_record(epoch: int, held_out_loss: float | None) -> EpochRecord:
    return EpochRecord(epoch, 10 * epoch, 2.0, held_out_loss, None, None, None)


def test_what_was_saved_goes_on_bit_for_bit(golden_files: dict[str, str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(2, 3, SIZE, SIZE), torch.tensor([1, 0])
    masks = torch.zeros(2, SIZE, SIZE)
    batch = (images, ["bolt", "nut"], labels, masks)
    model = golden.load(golden_files, image_size=SIZE)
    optimizer = make_optimizer(model)
    training_step(model, optimizer, *batch)
    state = TrainingState(step=1, steps=[step_record(1)])
    state.end_epoch(epoch_record(1, 0.5), model)
    state.capture(model, optimizer)
    save_state(str(tmp_path), state)
    training_step(model, optimizer, *batch)

    loaded = load_state(str(tmp_path))
    assert (loaded.step, loaded.steps, loaded.epochs) == (1, state.steps, state.epochs)
    other = golden.load(golden_files, image_size=SIZE)
    again = make_optimizer(other)
    loaded.restore(other, again)
    training_step(other, again, *batch)
    for name, value in model.learnable_state().items():
        assert torch.equal(other.learnable_state()[name], value), name
        assert not torch.equal(loaded.best_weights[name], value)


def test_a_run_that_has_not_begun_has_no_steps(
    golden_files: dict[str, str], tmp_path: Path
) -> None:
    state = load_state(str(tmp_path))
    assert (state.step, state.best_epoch) == (0, None)
    model = golden.load(golden_files, image_size=SIZE)
    before = {k: v.clone() for k, v in model.learnable_state().items()}
    state.restore(model, make_optimizer(model))
    assert all(torch.equal(v, before[k]) for k, v in model.learnable_state().items())


def test_storage_that_does_not_answer_is_no_new_run() -> None:
    with pytest.raises(StorageError):
        load_state("http://127.0.0.1:9/out")


def test_the_best_epoch_has_the_lowest_held_out_loss(golden_files: dict[str, str]) -> None:
    model = golden.load(golden_files, image_size=SIZE)
    state = TrainingState()
    weight = model.cls_token_layer.head[0].bias
    for epoch, held_out in enumerate([3.0, 1.0, 2.0, 1.0], start=1):
        with torch.no_grad():
            weight.fill_(float(epoch))
        state.end_epoch(epoch_record(epoch, held_out), model)
    assert state.best_epoch == 2
    assert state.best_weights["cls_token_layer.head.0.bias"].unique().tolist() == [2.0]


def test_without_a_held_out_part_no_epoch_is_best(golden_files: dict[str, str]) -> None:
    state = TrainingState()
    state.end_epoch(epoch_record(1, None), golden.load(golden_files, image_size=SIZE))
    assert (state.best_epoch, state.best_weights) == (None, {})


def test_a_run_is_stale_so_many_epochs_after_its_best() -> None:
    state = TrainingState()
    assert not state.is_stale(1)
    assert not state.is_stale(None)
    losses = EpochRecord(1, 1, 1.0, 0.5, 0.1, 0.2, 0.2)
    state.epochs, state.best_epoch = [losses] * 4, 2
    assert [state.is_stale(patience) for patience in (1, 2, 3, None)] == [True, True, False, False]
