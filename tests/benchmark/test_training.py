"""Measuring training steps: workers in processes of their own, and figures that fit together."""

from __future__ import annotations

from pipeline.benchmark.training import Case, labelled_batch, run_case
from pipeline.benchmark.whole_job import TINY
from pipeline.config import NONE, ModelSpec

TINY_MODEL = ModelSpec(backbone=TINY, backbone_weights=NONE, checkpoint=NONE, image_size=56)


def test_two_workers_step_together() -> None:
    case = Case(model=TINY_MODEL, batch_size=2, num_workers=2, num_threads=1, num_steps=1)
    result = run_case(case)
    assert result["step"] == "batch 2 x 2"
    assert result["images_per_s"] > 0
    assert result["peak_memory_bytes"] > result["step_memory_bytes"] >= 0


def test_batches_have_damaged_and_good_products_with_their_masks() -> None:
    images, categories, labels, masks = labelled_batch(4, 56)
    assert images.shape == (4, 3, 56, 56)
    assert len(set(categories)) == 4
    assert labels.tolist() == [1, 0, 1, 0]
    assert [bool(mask.any()) for mask in masks] == [True, False, True, False]
