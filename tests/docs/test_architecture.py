"""The page of the house is the house: its floors, its files, and the names in them."""

from __future__ import annotations

import re
import tomllib

from tests.docs.snippets import ROOT, blocks

PAGE = (ROOT / "docs/architecture.md").read_text()
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]


def test_floors_are_those_of_the_contracts() -> None:
    (house,) = blocks(PAGE, "text")
    floors = [re.split(r" {2,}", line)[0] for line in house.splitlines() if "─" not in line]
    pipeline, top, *_ = TOOLS["importlinter"]["contracts"]
    assert pipeline["name"] == "Imports point one way"
    assert floors == [top["layers"][0], *pipeline["layers"]]


def test_files_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`((?:docs|infra|jobs|pipeline|tests)(?:/[\w.-]*)+)`", PAGE))
    assert len(named) > 60
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_names_that_the_page_places_in_a_file_are_there() -> None:
    placed = re.findall(
        r"((?:`\w+`(?:,| and)? )+)(?:in|of) `([\w/]+\.py)`", PAGE.replace("\n", " ")
    )
    assert len(placed) > 8
    for names, path in placed:
        code = (ROOT / path).read_text()
        for name in re.findall(r"\w+", names.replace(" and ", " ")):
            assert re.search(rf"\b{name}\b", code), f"{path} has no {name}"
