"""docs/readers.md: its scripts read a real output, and its verdicts are what they read.

The readers of the development tools run here; ``make readers`` runs all of them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from infra.docs import reader_output
from infra.docs.reader_cells import run
from infra.docs.readers import READERS, SCRIPTS, VERDICTS, Reader, judged, verdict
from pipeline.results import open_results
from tests.docs.snippets import ROOT

FOUND = {each["reader"]: each for each in json.loads(VERDICTS.read_text())}
LIGHT = [each for each in READERS if each.light]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readers")
    reader_output.make(folder)
    return folder


@pytest.mark.parametrize("reader", LIGHT, ids=lambda each: each.name)
def test_light_readers_read_what_the_page_says(reader: Reader, tmp_path: Path) -> None:
    assert verdict(reader, tmp_path) == FOUND[reader.name]


def test_the_light_ones_are_those_of_the_recipes() -> None:
    assert {each.name for each in LIGHT} == {"pandas", "PyArrow", "Polars", "DuckDB"}


def test_every_reader_has_a_section_a_script_and_a_verdict_on_its_version() -> None:
    page = (ROOT / "docs/readers.md").read_text()
    scripts = {path.name for path in SCRIPTS.iterdir()} - {VERDICTS.name}
    assert {each.script for each in READERS} == scripts
    assert {each.name for each in READERS} == {*FOUND}
    for each in READERS:
        assert f"\n### {each.name}\n" in page
        if not each.light:
            assert re.split("==|@", each.packages[0])[-1] == FOUND[each.name]["version"]


def test_every_reader_reads_scores_and_maps() -> None:
    assert [name for name, each in FOUND.items() if not each["scores"] or not each["maps"]] == []


def test_the_output_is_as_the_page_says(here: Path) -> None:
    """Older columns come first by name, and of the compacted night each map is there twice."""
    rows = open_results(str(here / "scores")).scores()
    assert rows.score.notna().sum() == 10
    assert rows.error.notna().sum() == 3
    assert rows.score_logit.notna().sum() == 6
    shards = sorted((here / "scores/maps/scan_date=2026-11-22").iterdir())
    assert [path.name[:2] for path in shards] == ["a-", "b-", "z-"]
    assert set(rows.map_file.dropna()) & {f"maps/{p.parent.name}/{p.name}" for p in shards} == {
        f"maps/{shards[2].parent.name}/{shards[2].name}"
    }


def right() -> dict[str, Any]:
    """What a reader says that reads everything."""
    grids = reader_output.grids()
    nights = [["2026-11-21", 4, 1, 0], ["2026-11-22", 3, 1, 3], ["2026-11-23", 3, 1, 3]]
    half = next(iter(grids.values()))
    return {"nights": nights, "grids": [*grids.items()], "columns": ["score_logit"], "half": half}


def test_everything_right_is_judged_so() -> None:
    assert judged(right()) == {"scores": True, "plain": "there", "maps": 10, "half": "numbers"}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"nights": right()["nights"][:2]}, {"scores": False}),
        ({"nights": [["None", 10, 3, 6]]}, {"scores": False}),
        ({"columns": ["score"]}, {"plain": "missing"}),
        ({"plain error": "SchemaError: extra column"}, {"plain": "SchemaError: extra column"}),
        ({"grids": right()["grids"] * 2}, {"maps": 0}),
        ({"grids": [(uri, grid[::-1]) for uri, grid in right()["grids"]]}, {"maps": 0}),
        ({"grids": right()["grids"][:1]}, {"maps": 1}),
        ({"half": ["b'\\x00/'"]}, {"half": "other values"}),
    ],
)
def test_what_a_reader_gets_wrong_is_told(change: dict[str, Any], found: dict[str, Any]) -> None:
    assert judged(right() | change) == judged(right()) | found


def test_a_cell_that_fails_is_told_and_the_others_run() -> None:
    told = run("# %% told\nnights, grids = [1], {}\n# %% plain\n1 / 0\n# %% half\nhalf = [0.5]\n")
    assert told == {
        "nights": [1],
        "grids": {},
        "plain error": "ZeroDivisionError: division by zero",
        "half": [0.5],
    }
