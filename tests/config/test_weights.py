"""Mistakes in a model's weights that are answered before PyTorch or Ray is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from pipeline.config.weights import OF_BACKBONE, OF_CHECKPOINTS, check_fit, check_released, shapes
from pipeline.models import load_adaclip, save_checkpoint
from pipeline.models.checkpoint import RELEASED_REPOSITORY
from pipeline.packaged import FOLDER, SMALL_MODEL
from tests import golden

SMALL = {"backbone": SMALL_MODEL["backbone"], "prompt_length": 5}


@pytest.fixture(params=["adaclip.safetensors", "adaclip.pth"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path: Path = tmp_path / request.param
    save_checkpoint(load_adaclip(**SMALL_MODEL), path)
    return path


def test_the_shapes_in_a_file_are_read_without_its_numbers(checkpoint: Path) -> None:
    found = {name.removeprefix("clip_model."): shape for name, shape in shapes(checkpoint).items()}
    learnable = load_adaclip(**SMALL_MODEL).learnable_state()
    assert found == {name: tuple(weight.shape) for name, weight in learnable.items()}


def test_a_fitting_checkpoint_passes(checkpoint: Path) -> None:
    check_fit("--checkpoint", str(checkpoint), **SMALL)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone": "ViT-L-14-336"}, r"static_prompts\.0 is \[5, 128\], not \[5, 1024\]"),
        ({"backbone": golden.BACKBONE}, r"is \[5, 32\], not \[5, 64\]"),
        ({"prompt_length": 4}, r"is \[5, 128\], not \[4, 128\]"),
    ],
)
def test_one_of_another_model_is_refused(
    change: dict[str, Any], words: str, checkpoint: Path
) -> None:
    with pytest.raises(ValueError, match=rf"--model .* another backbone or prompt length.*{words}"):
        check_fit("--model", str(checkpoint), **SMALL | change)


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04", b"\xff" * 100, b"\x02" + 7 * b"\0" + b"[]"])
def test_files_of_other_formats_are_left_to_whoever_loads_them(body: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(body)
    assert shapes(tmp_path / "x.pth") == {}
    check_fit("--checkpoint", str(tmp_path / "x.pth"), **SMALL)
    check_fit("--checkpoint", "s3://bucket/x.pth", **SMALL)


class Maker:
    """Unpickled as it asks for, it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


def test_nothing_that_a_file_names_is_called(tmp_path: Path) -> None:
    torch.save({"a": Maker(tmp_path / "made")}, tmp_path / "x.pth")
    assert zipfile.is_zipfile(tmp_path / "x.pth")
    assert shapes(tmp_path / "x.pth") == {}
    assert not (tmp_path / "made").exists()


def test_it_takes_no_pytorch() -> None:
    code = (
        "import sys; from pipeline.config.weights import shapes; from pathlib import Path\n"
        f"print(len(shapes(Path({str(FOLDER / 'adaclip.safetensors')!r}))), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["38", "False"]


# --- released weights -----------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache, and a Hub that answers with an error."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield tmp_path
        server.shutdown()


def test_the_hub_is_that_of_whoever_loads() -> None:
    assert OF_CHECKPOINTS == RELEASED_REPOSITORY


def test_a_hub_that_answers_at_all_is_left_to_whoever_loads(hub: Path) -> None:
    check_released("ViT-L-14-336", "openai", "all")


def test_weights_that_are_nowhere_are_refused_by_name(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=rf"{OF_CHECKPOINTS} and {OF_BACKBONE} are not in"):
        check_released("ViT-L-14-336", "openai", "all")
    with pytest.raises(ValueError, match=f"of {OF_BACKBONE} are not in"):
        check_released("ViT-L-14-336", "openai", None)
    check_released("ViT-B-16", "laion2b", None)
    for repository in (OF_CHECKPOINTS, OF_BACKBONE):
        kept = hub / f"models--{repository.replace('/', '--')}" / "snapshots" / "1"
        kept.mkdir(parents=True)
        (kept / "weights").touch()
    check_released("ViT-L-14-336", "openai", "all")
