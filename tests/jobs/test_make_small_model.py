"""The small model: made by its command, and the one in the repository sees what it never saw."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from jobs import make_small_model
from pipeline.models import load_adaclip
from pipeline.packaged import FOLDER, IMAGE_SIZE, SMALL_MODEL
from pipeline.small_model import Pictures, measure, towers
from pipeline.synthetic import TEST_CATEGORIES, TRAIN_CATEGORIES

MAX_BYTES = 12e6


class Command:
    """The command with a step of everything, three categories to train on and one to test."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.said = ""
        """What the latest call printed."""

    def __call__(self, output: str, *more: str) -> dict[str, str]:
        """Arguments of ``load_adaclip``."""
        folder = self.folder / output
        steps = ["--image-steps", "3", "--text-steps", "2", "--adaclip-steps", "1"]
        few = ["--invented", "2", "--products", "1", "--num-threads", "1"]
        where = ["--output", str(folder), "--work", str(self.folder / "work")]
        self.patch.setattr("sys.argv", ["make_small_model", *where, *few, *steps, *more])
        with redirect_stdout(io.StringIO()) as said:
            try:
                assert make_small_model.main() == 0
            finally:
                self.said = said.getvalue()
        assert {path.name for path in folder.iterdir()} == {
            "clip.safetensors",
            "adaclip.safetensors",
        }
        return {
            "backbone_weights": str(folder / "clip.safetensors"),
            "checkpoint": str(folder / "adaclip.safetensors"),
        }


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """All of its outputs are below one folder."""
    views = {k: (sides, 2) for k, (sides, _) in towers.VIEWS.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_small_model, "TEST_PAIRS", 1)
        patch.setattr(make_small_model, "TEST_CATEGORIES", TEST_CATEGORIES[:1])
        patch.setattr(make_small_model, "TRAIN_CATEGORIES", TRAIN_CATEGORIES[-3:])
        for name, count in (("WHITENING_CROPS", 20), ("TEXT_BATCH", 2), ("ADACLIP_BATCH", 2)):
            patch.setattr(towers, name, count)
        patch.setattr(towers, "VIEWS", views)
        yield Command(tmp_path_factory.mktemp("small"), patch)


@pytest.fixture(scope="module")
def first(make: Command) -> tuple[dict[str, str], str]:
    """What the first call wrote and printed."""
    return make("first"), make.said


def test_the_command_writes_weights_that_load(first: tuple[dict[str, str], str]) -> None:
    made, said = first
    assert torch.tensor([1e-40]).mul(0.5).item() > 0, "denormal numbers stay flushed"
    assert "categories that took no part" in said
    model = load_adaclip(**SMALL_MODEL | made)
    found = model.predict(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE), ["capsule"])
    assert found.score.isfinite().all()
    assert found.logit_grid.isfinite().all()


def test_a_call_takes_the_image_tower_that_one_of_the_same_settings_kept(
    make: Command, first: tuple[dict[str, str], str]
) -> None:
    second = load_adaclip(**SMALL_MODEL | make("second"))
    assert "image tower: from" in make.said
    assert load_adaclip(**SMALL_MODEL | first[0]).fingerprint() == second.fingerprint()
    with pytest.raises(SystemExit, match=r"image_steps=3.*remove it"):
        make("third", "--image-steps", "4")
    assert "drawing" not in make.said


@pytest.mark.slow
def test_a_call_trains_the_weights_of_an_earlier_one_further(
    make: Command, first: tuple[dict[str, str], str], tmp_path: Path
) -> None:
    earlier = load_adaclip(**SMALL_MODEL | first[0])
    more = ["--go-on-from", str(make.folder / "first"), "--seed", "1", "--text-steps", "0"]
    same = load_adaclip(
        **SMALL_MODEL | make("same", *more, "--work", str(tmp_path / "0"), "--image-steps", "0")
    )
    for name, weight in earlier.clip.state_dict().items():
        torch.testing.assert_close(same.clip.state_dict()[name], weight, rtol=0, atol=0)
    further = load_adaclip(**SMALL_MODEL | make("further", *more, "--work", str(tmp_path / "3")))
    moved = further.clip.visual.conv1.weight - earlier.clip.visual.conv1.weight
    assert 0 < moved.norm() < 0.5 * earlier.clip.visual.conv1.weight.norm()


def test_earlier_weights_are_asked_for_before_anything_is_drawn(
    make: Command, tmp_path: Path
) -> None:
    nowhere = ["--go-on-from", str(tmp_path / "nowhere"), "--work", str(tmp_path / "work")]
    with pytest.raises(ValueError, match=r"nowhere.*clip\.safetensors.*no such file"):
        make("none", *nowhere)
    assert "drawing" not in make.said


@pytest.mark.slow
def test_the_model_in_the_repository_finds_defects_of_categories_it_never_saw() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MAX_BYTES
    model = load_adaclip(**SMALL_MODEL)
    pictures = Pictures.draw(TEST_CATEGORIES, 7, IMAGE_SIZE, seed=3_000_000, twins=False)
    table = measure(model, pictures)
    average = table.iloc[-1]
    assert average.pixel_auroc > 0.9
    assert average.image_auroc > 0.6
