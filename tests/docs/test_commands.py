"""What the pages tell people to type: commands parse; flags, modules and targets exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.commands import (
    benchmark,
    calibrate,
    evaluate,
    maintain,
    nightly,
    references,
    score,
    train,
)
from pipeline.commands.__main__ import COMMANDS as ADACLIP
from tests.docs.snippets import ROOT, blocks

PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.glob("docs/**/*.md")}
PAGES["README.md"] = (ROOT / "README.md").read_text()
# The runbook has a test of its own.
ABOUT_JOBS = ("cluster", "evaluation", "getting-started", "inputs", "nightly", "output", "scale")
ABOUT_JOBS += ("concepts", "differences", "training", "troubleshooting", "choosing", "results")
ABOUT_JOBS += ("migrating-anomalib", "migrating-csv", "migrating-lookout", "references")
PARSERS: dict[str, Callable[[list[str]], object]] = {
    "benchmark.py": benchmark.parse,
    "build_references.py": references.parse,
    "calibrate.py": calibrate.parse,
    "evaluate.py": evaluate.parse,
    "maintain.py": maintain.parse,
    "nightly_scan.py": nightly.parse,
    "score_bucket.py": score.parse,
    "train_auxiliary.py": train.parse,
}


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of the shell blocks of all pages: page, words."""
    for page in PAGES:
        for block in blocks(PAGES[page], "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield page, words


COMMANDS = list(commands())


def test_command_lines_of_jobs_are_ones_that_their_parsers_take() -> None:
    parsed = set()
    for page, words in COMMANDS:
        for position, word in enumerate(words):
            if (name := Path(word).name) in PARSERS and words[position - 1].endswith("python"):
                assert (ROOT / word.removeprefix("/app/")).is_file(), page
                PARSERS[name](words[position + 1 :])
                parsed.add(name)
    assert parsed >= {"benchmark.py", "score_bucket.py"}


def test_commands_of_the_package_are_ones_that_their_parsers_take() -> None:
    named = set()
    for page, words in COMMANDS:
        if words[0] == "adaclip" and not words[1].startswith("-"):
            assert words[1] in ADACLIP, page
            import_module(f"pipeline.commands.{words[1]}").parse(words[2:])
            named.add(words[1])
    assert named >= ADACLIP.keys() - {"submit"}


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
                parse([*arguments, "--help-all"])
    known = {"--help", "--help-all"}
    known |= set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    for page in ABOUT_JOBS:
        text = PAGES[f"docs/{page}.md"]
        prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
        for code in re.findall(r"`([^`]+)`", prose):
            if "python -m " in code or "ray job submit" in code:
                continue
            for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", code):
                assert flag in known, f"{page}: {code}"
