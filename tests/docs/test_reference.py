"""The generated tables hold everything that the code has, refuse what nobody explained, and stand
in the pages as they are now.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pytest
import tyro

from infra.docs import reference
from infra.docs.reference import (
    COMMAND,
    TABLES,
    UndocumentedError,
    arrow_name,
    columns,
    explained,
    filled,
    prose,
)
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
from pipeline.config import ScoreConfig
from pipeline.distributed.training.state import StepRecord
from pipeline.nightly.scans import FLAGS
from pipeline.report import RunReport
from pipeline.schema import FINAL_ERRORS, PARTITION_COLUMN, SCORE_SCHEMA, ErrorCode
from tests.docs.snippets import ROOT

OUTPUT = (ROOT / "docs/output.md").read_text()


def first_cells(table: str) -> list[str]:
    """The names in the first column of a table."""
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


def test_score_columns_are_the_schemas_with_the_partition() -> None:
    table = TABLES["score-columns"]()
    assert first_cells(table) == [*SCORE_SCHEMA.names, PARTITION_COLUMN.name]
    assert "| `score` | `float32` | abnormal probability of the image, 0 to 1;" in table
    assert "| `category` | `dictionary<int32, string>` | class name" in table
    assert "| `logit_grid_q8` | `list<int16>` | " in TABLES["map-columns"]()


def test_a_column_without_a_meaning_is_refused() -> None:
    with pytest.raises(UndocumentedError, match="the column temperature"):
        columns(pa.schema([pa.field("temperature", pa.float32())]))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.timestamp("us", tz="UTC"), "timestamp[us, tz=UTC]"),
        (pa.float16(), "float16"),
        (pa.list_(pa.float32()), "list<float32>"),
        (pa.dictionary(pa.int32(), pa.string()), "dictionary<int32, string>"),
    ],
)
def test_types_are_named_as_in_pyarrow(kind: pa.DataType, name: str) -> None:
    assert arrow_name(kind) == name


def test_every_error_code_says_whether_it_is_final() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.+) \|$", TABLES["error-codes"](), re.MULTILINE))
    assert rows.keys() == {code.value for code in ErrorCode}
    assert {code for code, again in rows.items() if again.startswith("no")} == set(FINAL_ERRORS)
    assert rows["too_large"] == "only if `--max-megapixels` allows its size by then"


@pytest.mark.parametrize(
    ("tables", "parse", "arguments"),
    [
        (("model-settings", "images-settings", "score-settings"), score.parse, []),
        (("model-settings", "train-settings"), train.parse, []),
        (("model-settings", "evaluate-settings"), evaluate.parse, []),
        (("model-settings", "benchmark-settings"), benchmark.parse, []),
        (("model-settings", "images-settings", "calibrate-settings"), calibrate.parse, []),
        (("model-settings", "images-settings", "references-settings"), references.parse, []),
        (("nightly-settings",), nightly.parse, []),
        (("compact-settings",), maintain.parse, ["compact"]),
        (("vacuum-settings",), maintain.parse, ["vacuum"]),
    ],
)
def test_flags_are_those_of_the_help(
    tables: tuple[str, ...],
    parse: Callable[[list[str]], object],
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse([*arguments, "--help-all"])
    helped = set(re.findall(r"^  (--[a-z][a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    shown = set()
    for name in tables:
        flags = re.findall(r"^\| <span id=.*?</span>`(--[a-z-]+)`", TABLES[name](), re.MULTILINE)
        assert len(flags) == len(set(flags))
        shown |= set(flags)
    assert shown == helped


def test_settings_tell_kind_default_and_meaning() -> None:
    score = TABLES["images-settings"]() + TABLES["score-settings"]()
    assert "`--input` | text, may be repeated | required | Folders" in score
    assert "`--precision` | `fp32` or `bf16` | `fp32` |" in score
    assert "`--maps`, `--no-maps` | switch | on |" in score
    assert "`--scan-date` | text | today |" in score
    assert "`--limit` | whole number | none |" in score
    assert r"(?P&lt;category&gt;...)" in score
    assert "`--max-error-rate` | number | `0.05` |" in score
    assert "`max_score` | number, or one for each category (number)" in TABLES["alert-keys"]()


def test_keys_of_scans_yaml_are_those_that_it_takes() -> None:
    links = re.findall(r"\[`(\w+)`\]\(#(\w+)\.\1\)", TABLES["scan-keys"]())
    assert {name for name, _ in links} == {each.name for each in fields(ScoreConfig)} - {*FLAGS}
    assert dict(links)["image_size"] == "modelconfig"
    assert dict(links)["include"] == "imagesconfig"
    assert dict(links)["maps"] == "scoreconfig"


def test_a_class_with_an_unexplained_attribute_is_refused() -> None:
    with pytest.raises(UndocumentedError, match=r"StepRecord\.\w+ has no docstring"):
        explained(StepRecord)


def test_prose_keeps_its_characters_and_marks_code() -> None:
    assert prose("a <b> *c*\n  d_e ``f_g``, --max-h.") == (
        r"a &lt;b&gt; \*c\* d\_e `f_g`, `--max-h`."
    )


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name)
def test_generated_tables_are_current(page: Path) -> None:
    text = page.read_text()
    told = f"{page.relative_to(ROOT)} is not what the code says now: run {COMMAND}"
    assert filled(text) == text, told


def test_every_table_is_in_a_page() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    for name, make in TABLES.items():
        assert f"<!-- generated: {name} -->\n\n{make()}\n\n<!-- end -->" in pages
        assert len(make()) > 100


def test_what_stood_between_the_markers_is_replaced_and_nothing_else() -> None:
    old = "before\n\n<!-- generated: scan-keys -->\nan older table\n<!-- end -->\nbehind\n"
    new = filled(old)
    made = TABLES["scan-keys"]()
    assert new == f"before\n\n<!-- generated: scan-keys -->\n\n{made}\n\n<!-- end -->\nbehind\n"
    assert filled(new) == new


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("<!-- generated: no-such-table -->\n<!-- end -->\n", "there is no table no-such-table"),
        (
            "<!-- generated: scan-keys -->\n<!-- generated: alert-keys -->\n<!-- end -->\n",
            "the table scan-keys has no <!-- end -->",
        ),
    ],
)
def test_markers_that_mean_nothing_are_refused(page: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        filled(page)


def test_report_json_is_described_key_by_key() -> None:
    report = RunReport(run_id="r", settings={}).as_dict()
    table = OUTPUT[OUTPUT.index("`report.json`:") : OUTPUT.index("## lock.json")]
    assert first_cells(table) == list(report)
    (counts,) = re.findall(r"^\| `counts` \| (.*) \|$", table, re.MULTILINE)
    assert re.findall(r"`(\w+)`", counts) == list(report["counts"])


@dataclass(frozen=True)
class Renaming:
    """Settings as tyro's annotations name them."""

    target: tyro.conf.Positional[str]
    """What to rename."""
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Its name."""


def test_positional_and_renamed_settings_are_called_as_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    docs = {"target": "What to rename.", "from_": "Its name."}
    monkeypatch.setattr(reference, "explained", lambda kind: docs)
    shown = reference.settings(Renaming)
    assert "`TARGET` | text | required | What to rename. |" in shown
    assert "`--from` | text | none | Its name. |" in shown


def test_a_notebook_becomes_text_and_python_that_is_its_own() -> None:
    page = TABLES["bucket-to-decision"]()
    assert page.startswith("# From a bucket to a decision\n")
    blocks = re.findall(r"```python\n(.*?)\n```", page, flags=re.DOTALL)
    script = (ROOT / "docs/notebooks/bucket_to_decision.py").read_text()
    assert len(blocks) == script.count("\n# %%\n")
    assert all(block in script for block in blocks)
    assert "# %%" not in page
