"""The small model: made by its command, and the one in the repository sees what it never saw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jobs import make_small_model
from pipeline.models import load_adaclip
from pipeline.models.packaged import FOLDER, IMAGE_SIZE, SMALL_MODEL
from pipeline.small_model import Pictures, measure, towers
from pipeline.synthetic import TEST_CATEGORIES

MAX_BYTES = 12e6


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """Call the command with a step of everything: arguments of ``load_adaclip``."""
    monkeypatch.setattr(make_small_model, "TEST_PAIRS", 1)
    for name, count in (("WHITENING_CROPS", 20), ("TEXT_BATCH", 2), ("ADACLIP_BATCH", 2)):
        monkeypatch.setattr(towers, name, count)
    monkeypatch.setattr(towers, "VIEWS", {k: (sides, 2) for k, (sides, _) in towers.VIEWS.items()})

    def call(output: str, *more: str) -> dict[str, str]:
        folder = tmp_path / output
        steps = ["--image-steps", "3", "--text-steps", "2", "--adaclip-steps", "1"]
        few = ["--invented", "2", "--products", "1", "--num-threads", "1"]
        where = ["--output", str(folder), "--work", str(tmp_path / "work")]
        monkeypatch.setattr("sys.argv", ["make_small_model", *where, *few, *steps, *more])
        assert make_small_model.main() == 0
        assert {path.name for path in folder.iterdir()} == {
            "clip.safetensors",
            "adaclip.safetensors",
        }
        return {
            "backbone_weights": str(folder / "clip.safetensors"),
            "checkpoint": str(folder / "adaclip.safetensors"),
        }

    return call


def test_the_command_writes_weights_that_load(
    make: Callable[..., dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    made = make("new")
    assert torch.tensor([1e-40]).mul(0.5).item() > 0, "denormal numbers stay flushed"
    assert "categories that took no part" in capsys.readouterr().out
    model = load_adaclip(**SMALL_MODEL | made)
    found = model.predict(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE), ["capsule"])
    assert found.score.isfinite().all()
    assert found.logit_grid.isfinite().all()


def test_a_call_takes_the_image_tower_that_one_of_the_same_settings_kept(
    make: Callable[..., dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_adaclip(**SMALL_MODEL | make("first"))
    capsys.readouterr()
    second = load_adaclip(**SMALL_MODEL | make("second"))
    assert "image tower: from" in capsys.readouterr().out
    assert first.fingerprint() == second.fingerprint()
    with pytest.raises(SystemExit, match=r"image_steps=3.*remove it"):
        make("third", "--image-steps", "4")
    assert "drawing" not in capsys.readouterr().out


def test_a_call_trains_the_weights_of_an_earlier_one_further(
    make: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    first = load_adaclip(**SMALL_MODEL | make("first"))
    more = ["--go-on-from", str(tmp_path / "first"), "--seed", "1", "--text-steps", "0"]
    same = load_adaclip(
        **SMALL_MODEL | make("same", *more, "--work", str(tmp_path / "0"), "--image-steps", "0")
    )
    for name, weight in first.clip.state_dict().items():
        torch.testing.assert_close(same.clip.state_dict()[name], weight, rtol=0, atol=0)
    further = load_adaclip(**SMALL_MODEL | make("further", *more, "--work", str(tmp_path / "3")))
    moved = further.clip.visual.conv1.weight - first.clip.visual.conv1.weight
    assert 0 < moved.norm() < 0.5 * first.clip.visual.conv1.weight.norm()


def test_earlier_weights_are_asked_for_before_anything_is_drawn(
    make: Callable[..., dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"nowhere.*clip\.safetensors.*no such file"):
        make("none", "--go-on-from", str(tmp_path / "nowhere"))
    assert "drawing" not in capsys.readouterr().out


def test_the_model_in_the_repository_finds_defects_of_categories_it_never_saw() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MAX_BYTES
    model = load_adaclip(**SMALL_MODEL)
    pictures = Pictures.draw(TEST_CATEGORIES, 7, IMAGE_SIZE, seed=3_000_000, twins=False)
    table = measure(model, pictures)
    average = table.iloc[-1]
    assert average.pixel_auroc > 0.9
    assert average.image_auroc > 0.6
