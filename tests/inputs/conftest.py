"""A folder of images, and a run over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import ScoreConfig
from tests.inputs.building import write


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """An input folder: two classes, one of them with a folder below, and a file at the top."""
    folder = tmp_path / "images"
    for key in ("bottle/1.png", "bottle/good/2.png", "metal-nut/3.JPG", "top.png"):
        write(folder / key)
    return folder


@pytest.fixture
def config(images: Path, tmp_path: Path) -> ScoreConfig:
    return ScoreConfig(input=(str(images),), output=str(tmp_path / "out"))
