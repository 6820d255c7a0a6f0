"""What README and docs/queries.md print is what their Python prints, of a table made up here."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.docs.snippets import ROOT
from tests.outputs import scored, write

PAGE = (ROOT / "docs/queries.md").read_text()
PARTS = {"cable": 0.28, "metal nut": 0.16}  # what a good one scores


def rows(night: int, count: int) -> list[dict[str, object]]:
    """A night's photographs of two cameras, a few of them damaged, three broken."""
    random = np.random.default_rng(night)
    made = []
    for i in range(count):
        category = sorted(PARTS)[i % 2]
        camera = f"cam{1 + i // 2 % 2}"
        damaged = random.random() < (0.12 if camera == "cam2" else 0.03)
        usual = PARTS[category] + (0.05 if (night, category) == (23, "cable") else 0.0)
        score = random.beta(8, 2) if damaged else random.normal(usual, 0.05)
        folder = f"s3://bucket/photos/{category}/{camera}/2026-11-{night}"
        broken = i in (11, 26, 70) and night == 23
        made.append(row(folder, 1000 * night + i, None if broken else float(score), category))
    return made


def row(folder: str, i: int, score: float | None, category: str) -> dict[str, object]:
    """One row; what a category is called does not follow from its number, as elsewhere."""
    made = scored(folder, i, score) | {"category": category}
    if score is None:
        code = {11: "truncated", 26: "empty", 70: "not_an_image"}[i % 1000]
        message = {
            "truncated": "image file is truncated (9 bytes not processed)",
            "empty": "the object has no bytes",
            "not_an_image": "the bytes are no known image format",
        }[code]
        return made | {"error": code, "error_message": message}
    peak = min(0.99, score * 1.1)
    return made | {"map_max": peak, "anomalous_area": max(0.0, score - 0.5) / 20}


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three nights, and before them 120 known-good photographs of which 60 show each part."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    good = [
        row(f"s3://bucket/known-good/{category}", i, float(random.normal(usual, 0.05)), category)
        for i in range(120)
        for category, usual in [sorted(PARTS.items())[i % 2]]
    ]
    write("scores", good, "2026-11-20")
    for night in (21, 22, 23):
        write("scores", rows(night, 240), f"2026-11-{night}")


@pytest.mark.usefixtures("output")
def test_the_page_prints_what_it_says() -> None:
    pairs = printing(PAGE)
    assert len(pairs) == 6
    run(pairs)
    assert Path("look-at-these.csv").read_text().count("\n") > 5


@pytest.mark.usefixtures("output")
def test_the_readme_prints_what_it_says() -> None:
    run([pair for pair in printing((ROOT / "README.md").read_text()) if pair[1]])


def printing(page: str) -> list[tuple[str, str]]:
    """The Python blocks of a page, each with the text that follows, if any does."""
    return re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", page, re.M | re.S)


def run(pairs: list[tuple[str, str]]) -> None:
    """Run the blocks in one namespace; what each prints must be what follows it."""
    namespace: dict[str, Any] = {}
    for number, (code, shown) in enumerate(pairs):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), pd.option_context("display.width", 120):
            exec(compile(code.replace("s3://bucket/scores", "scores"), "page", "exec"), namespace)
        assert clean(printed.getvalue()) == clean(shown), f"block {number}:\n{printed.getvalue()}"


def clean(text: str) -> str:
    """Without blanks at the ends of lines, which editors take away."""
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())
