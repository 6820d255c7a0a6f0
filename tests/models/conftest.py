"""Models and an empty cache of weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.models import AdaCLIP, load_adaclip
from tests import golden

Files = Mapping[str, str]


@pytest.fixture(scope="module")
def model(golden_files: Files) -> AdaCLIP:
    """The golden model; tests leave its weights as they are."""
    return golden.load(golden_files)


@pytest.fixture(scope="module")
def random_model() -> AdaCLIP:
    return load_adaclip(backbone=golden.BACKBONE, backbone_weights=None, image_size=168)


@pytest.fixture
def blank(random_model: AdaCLIP) -> AdaCLIP:
    """A model of the golden architecture with random weights, which a test may change."""
    return copy.deepcopy(random_model)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for downloaded weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"
