"""The small model: made by its command, and the one in the repository sees what it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import make_small_model
from jobs.make_small_model import FOLDER, SIZE, Pictures, load_small, measure
from pipeline.datasets.synthetic import TEST_CATEGORIES

MAX_BYTES = 12e6


def test_the_command_writes_weights_that_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [
        "--image-steps",
        "2",
        "--again-steps",
        "1",
        "--whole-steps",
        "1",
        "--text-steps",
        "1",
        "--adaclip-steps",
        "1",
    ]
    arguments = ["--output", str(tmp_path), "--pictures", "2", "--num-threads", "1", *steps]
    monkeypatch.setattr("sys.argv", ["make_small_model", *arguments])
    monkeypatch.setattr(make_small_model, "TEST_PICTURES", 2)
    assert make_small_model.main() == 0
    assert torch.tensor([1e-40]).mul(0.5).item() > 0, "denormal numbers stay flushed"
    assert "categories that took no part" in capsys.readouterr().out
    weights = {path.name: path for path in tmp_path.iterdir()}
    assert set(weights) == {"clip.safetensors", "adaclip.safetensors"}
    model = load_small(weights["clip.safetensors"], checkpoint=str(weights["adaclip.safetensors"]))
    found = model.predict(torch.zeros(1, 3, SIZE, SIZE), ["capsule"])
    assert found.score.isfinite().all()
    assert found.logit_grid.isfinite().all()


def test_pictures_are_half_good_and_crops_show_defects() -> None:
    pictures = Pictures.draw(("washer", "cork"), 4, 96, seed=0)
    assert pictures.images.shape == (8, 96, 96, 3)
    damaged = pictures.masks.any((1, 2))
    assert damaged.sum() == 4
    images, masks, categories = pictures.crops(np.random.default_rng(0), 32, 32)
    assert images.shape == (32, 3, 32, 32)
    assert masks.flatten(1).any(1).sum() > 8
    assert set(categories.tolist()) == {0, 1}


def test_the_model_in_the_repository_finds_defects_of_categories_it_never_saw() -> None:
    files = [FOLDER / name for name in ("clip.json", "clip.safetensors", "adaclip.safetensors")]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    model = load_small(files[1], checkpoint=str(files[2]))
    table = measure(model, Pictures.draw(TEST_CATEGORIES, 14, SIZE, seed=3_000_000))
    average = table.iloc[-1]
    assert average.pixel_auroc > 0.9
    assert average.image_auroc > 0.6
