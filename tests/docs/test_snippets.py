"""What the pages tell people to type works: Python runs, command lines parse, flags exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import pipeline.models
from jobs import evaluate, maintain, nightly_scan, score_bucket, train_auxiliary
from pipeline.models import AdaCLIP
from pipeline.storage import stat
from tests import golden
from tests.bucket import jpeg, put
from tests.docs.conftest import ROOT
from tests.outputs import scored, write

PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.glob("docs/**/*.md")}
PAGES["README.md"] = (ROOT / "README.md").read_text()
# The runbook has a test of its own.
ABOUT_JOBS = ("cluster", "evaluation", "getting-started", "inputs", "nightly", "output", "scale")
ABOUT_JOBS += ("concepts", "differences", "training", "troubleshooting")
PARSERS: dict[str, Callable[[list[str]], object]] = {
    "evaluate.py": evaluate.parse,
    "maintain.py": maintain.parse,
    "nightly_scan.py": nightly_scan.parse,
    "score_bucket.py": score_bucket.parse,
    "train_auxiliary.py": train_auxiliary.parse,
}


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    pattern = rf"^ *```{language}\n(.*?)^ *```"
    return re.findall(pattern, PAGES[page], re.DOTALL | re.MULTILINE)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of the shell blocks of all pages: page, words."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield page, words


COMMANDS = list(commands())


# --- Python ---------------------------------------------------------------------------------


@pytest.fixture
def namespace(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden_files: dict[str, str]
) -> dict[str, Any]:
    """An output at s3://<bucket>/scores, a photograph, and small weights for the big ones."""
    put(bucket, {f"in/{i}.jpg": jpeg(i) for i in range(4)})
    folder = f"s3://{bucket}/in"
    rows = [scored(folder, i, 0.5 + i / 10) for i in range(4)]
    for row in rows:
        row |= {"category": "metal nut", "etag": stat(str(row["uri"])).etag}
    write(f"s3://{bucket}/scores", [*rows, scored(folder, 9, None)], "2026-11-23")
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(jpeg(0))

    def load_small(checkpoint: str) -> AdaCLIP:
        assert checkpoint == "all"
        return golden.load(golden_files, image_size=518)

    monkeypatch.setattr(pipeline.models, "load_adaclip", load_small)
    return {}


def test_getting_started_runs(namespace: dict[str, Any], bucket: str) -> None:
    snippets = blocks("docs/getting-started.md", "python")
    assert len(snippets) == 3
    for snippet in snippets:
        exec(snippet.replace("s3://bucket/", f"s3://{bucket}/"), namespace)
    assert namespace["worst"].score.dropna().is_monotonic_decreasing
    assert dict(namespace["failed"]) == {"truncated": 1}
    assert namespace["anomaly_map"].shape == (64, 96)
    assert Path("worst.png").stat().st_size > 0
    assert 0 <= namespace["out"].score.item() <= 1


def test_the_grid_of_the_concepts_renders() -> None:
    namespace: dict[str, Any] = {}
    (snippet,) = blocks("docs/concepts.md", "python")
    exec(snippet, namespace)
    assert namespace["small"].shape == (518, 518)
    assert namespace["original"].shape == (3000, 4000)
    assert namespace["small"].max() > 0.9 > 0.1 > namespace["small"].min()


# --- command lines --------------------------------------------------------------------------


def test_command_lines_of_jobs_are_ones_that_their_parsers_take() -> None:
    parsed = set()
    for page, words in COMMANDS:
        for position, word in enumerate(words):
            if (name := Path(word).name) in PARSERS and words[position - 1].endswith("python"):
                assert (ROOT / word.removeprefix("/app/")).is_file(), page
                PARSERS[name](words[position + 1 :])
                parsed.add(name)
    assert parsed == PARSERS.keys()


def test_modules_that_are_run_exist() -> None:
    text = "\n".join(PAGES.values())
    modules = set(re.findall(r"python -m ((?:jobs|pipeline|tests)[\w.]*\w)", text))
    assert len(modules) > 2
    assert [name for name in modules if find_spec(name) is None] == []


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make (\w+)`|^make (\w+)$", "\n".join(PAGES.values()), re.MULTILINE))
    assert {a or b for a, b in named} <= targets


def test_flags_that_the_text_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for name, parse in PARSERS.items():
        subcommands = [["compact"], ["vacuum"]] if name == "maintain.py" else [[]]
        for arguments in subcommands:
            with pytest.raises(SystemExit):
                parse([*arguments, "--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    for page in ABOUT_JOBS:
        text = PAGES[f"docs/{page}.md"]
        prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
        for code in re.findall(r"`([^`]+)`", prose):
            if "python -m " in code or "ray job submit" in code:
                continue
            for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", code):
                assert flag in known, f"{page}: {code}"
