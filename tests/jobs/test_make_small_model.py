"""The small model: made by its command, and the one in the repository sees what it never saw."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs import make_small_model
from jobs.make_small_model import FOLDER, SIZE, load_small
from pipeline.datasets.synthetic import TEST_CATEGORIES
from pipeline.small_model import Pictures, measure, towers

MAX_BYTES = 12e6


def test_the_command_writes_weights_that_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = ["--image-steps", "3", "--text-steps", "1", "--adaclip-steps", "1"]
    few = ["--invented", "2", "--products", "1", "--num-threads", "1"]
    arguments = ["--output", str(tmp_path), *few, *steps]
    monkeypatch.setattr("sys.argv", ["make_small_model", *arguments])
    monkeypatch.setattr(make_small_model, "TEST_PAIRS", 1)
    for name, count in (("TEXT_PICTURES", 8), ("TEXT_BATCH", 4), ("ADACLIP_BATCH", 2)):
        monkeypatch.setattr(towers, name, count)
    monkeypatch.setattr(towers, "VIEWS", {k: (sides, 2) for k, (sides, _) in towers.VIEWS.items()})
    assert make_small_model.main() == 0
    assert torch.tensor([1e-40]).mul(0.5).item() > 0, "denormal numbers stay flushed"
    assert "categories that took no part" in capsys.readouterr().out
    weights = {path.name: path for path in tmp_path.iterdir()}
    assert set(weights) == {"clip.safetensors", "adaclip.safetensors"}
    model = load_small(weights["clip.safetensors"], checkpoint=str(weights["adaclip.safetensors"]))
    found = model.predict(torch.zeros(1, 3, SIZE, SIZE), ["capsule"])
    assert found.score.isfinite().all()
    assert found.logit_grid.isfinite().all()


def test_the_model_in_the_repository_finds_defects_of_categories_it_never_saw() -> None:
    files = [FOLDER / name for name in ("clip.json", "clip.safetensors", "adaclip.safetensors")]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    model = load_small(files[1], checkpoint=str(files[2]))
    pictures = Pictures.draw(TEST_CATEGORIES, 7, SIZE, seed=3_000_000, twins=False)
    table = measure(model, pictures)
    average = table.iloc[-1]
    assert average.pixel_auroc > 0.9
    assert average.image_auroc > 0.6
