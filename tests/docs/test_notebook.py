"""The notebook runs from its first cell to its last, and leaves what it says."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image
from pycocotools.coco import COCO

from pipeline.calibration import read_calibration
from tests.docs.snippets import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "bucket_to_decision.py"


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", str(NOTEBOOK)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_from_a_bucket_to_a_decision(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    done = run(folder)
    if done.returncode == -signal.SIGABRT:  # seen once: Ray itself, starting on a busy machine
        folder = tmp_path / "second"
        done = run(folder)
    assert done.returncode == 0, done.stderr
    here = folder / "bucket_to_decision"
    limit = read_calibration(f"{here}/thresholds.json").limits["capsule"]["score"]
    assert (limit.num_images, limit.num_above) == (60, 0)
    assert limit.bound <= 0.05
    assert (
        "60 good images: with 0.95 confidence at most 4.87% of good images are above" in done.stdout
    )
    assert Image.open(here / "worst.png").size[0] > 0
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(f"{here}/boxes.json")
    found = re.search(r"(\d+) of (\d+) pictures need a look", done.stdout)
    assert found
    assert 0 < int(found[1]) < int(found[2])
    assert len(coco.getImgIds()) == int(found[1])
    assert coco.getAnnIds()


def test_it_is_a_notebook_of_text_and_code_in_turns() -> None:
    """So that it can be rendered: every cell begins with a marker, text cells are comments."""
    cells = re.split(r"^# %%", NOTEBOOK.read_text(), flags=re.MULTILINE)[1:]
    kinds = ["text" if cell.startswith(" [markdown]") else "code" for cell in cells]
    assert kinds == ["text", "code"] * (len(cells) // 2)
    for cell, kind in zip(cells, kinds, strict=True):
        lines = cell.splitlines()[1:]
        if kind == "text":
            assert all(not line or line.startswith("#") for line in lines)
