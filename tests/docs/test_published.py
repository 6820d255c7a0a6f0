"""docs/publishing.md: its scripts ask real tables, and its verdicts are what they were told.

The engines of the development tools run here; ``make readers`` runs all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.docs.published import ENGINES, FORMATS, SCRIPTS, VERDICTS, expected, tables, verdict
from infra.docs.readers import answer_of

FOUND = {each["engine"]: each for each in json.loads(VERDICTS.read_text())}
LIGHT = [each for each in ENGINES if each.light]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    work = tmp_path_factory.mktemp("published")
    with tables(work) as variables:
        yield work, variables


@pytest.mark.slow
def test_light_engines_answer_as_the_page_says(published: tuple[Path, dict[str, str]]) -> None:
    for engine in LIGHT:
        assert verdict(engine, *published) == FOUND[engine.name]
    nights = {date: rows for date, rows, *_ in expected(str(published[0] / "scores"))}
    assert nights == {"2026-11-22": 4, "2026-11-23": 3, "2026-11-24": 1}, "one was scored again"


@pytest.mark.slow
def test_an_engine_that_fails_or_is_wrong_is_told(
    published: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "python.py").write_text(
        "# %% delta\ndelta = [['2026-11-22', 4, 1, 0.5]]\n# %% iceberg\n1 / 0\n"
    )
    monkeypatch.setattr("infra.docs.published.SCRIPTS", tmp_path)
    told = verdict(LIGHT[0], *published)
    assert (told["delta"], told["iceberg"]) == ("wrong", "ZeroDivisionError: division by zero")
    assert answer_of(tmp_path / "python.py", (), tmp_path)["delta"][0][1] == 4


def test_every_engine_has_a_script_and_a_verdict_on_its_version() -> None:
    assert {each.script for each in ENGINES} == {path.name for path in SCRIPTS.glob("*.py")}
    assert [each.name for each in ENGINES] == [*FOUND]
    for each in ENGINES:
        if not each.light:
            assert each.packages[0].endswith(f"=={FOUND[each.name]['version']}")


def test_iceberg_is_read_by_all_and_delta_by_all_but_one() -> None:
    wrong = [(name, kind) for name in FOUND for kind in FORMATS if FOUND[name][kind] != "right"]
    assert wrong == [("Daft", "delta")]
