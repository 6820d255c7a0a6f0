"""Which row holds, over awkward histories: every reader and every recipe gives one answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from pipeline.config import EvaluateConfig
from pipeline.distributed.evaluation.labelled import LabelledSet, existing_scores
from pipeline.output.compaction import compact
from pipeline.output.rows import rows_that_hold
from pipeline.report.page_data import gather
from pipeline.report.scope import Query
from pipeline.results import open_results
from pipeline.schema import LABELLED_SCHEMA
from tests.docs.snippets import ROOT, blocks
from tests.outputs import scored, write

FOLDER = "s3://b/in"
FAILED, BROKEN = {"error": "fetch_failed"}, {"error": "truncated"}
# Of each object: what became of it in three nights (a score or an error, and which version it was),
# and the score or error that holds.
HISTORIES: list[tuple[list[tuple[float | dict[str, str], int] | None], float | str]] = [
    ([(0.5, 1), None, None], 0.5),
    ([(0.5, 1), (FAILED, 1), None], 0.5),
    ([(FAILED, 1), (0.5, 1), (FAILED, 1)], 0.5),
    ([(FAILED, 1), (FAILED, 1), None], "fetch_failed"),
    ([(BROKEN, 1), (FAILED, 1), None], "truncated"),
    ([(0.875, 1), (0.25, 1), None], 0.25),  # scored again
    ([(0.875, 1), None, (0.25, 2)], 0.25),  # replaced
    ([(0.875, 1), (BROKEN, 2), None], "truncated"),
    ([(0.875, 1), (FAILED, 2), (FAILED, 2)], "fetch_failed"),
    ([(0.875, 1), (FAILED, 2), (0.25, 2)], 0.25),
]


def row(i: int, what: float | dict[str, str], version: int) -> dict[str, Any]:
    score = what if isinstance(what, float) else None
    error = {} if isinstance(what, float) else what
    made = scored(FOLDER, i, score) | {"etag": str(version), **error}
    return made | {"image_id": f"{version:02}{i:030x}", "map_max": score, "category": "bolt"}


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Three nights of a model, and a night of one before it."""
    output = str(tmp_path / "scores")
    former = [row(i, 0.125, 1) for i in range(len(HISTORIES))]
    write(
        output,
        [each | {"image_id": f"f{i:031x}"} for i, each in enumerate(former)],
        "2026-01-01",
        "old",
    )
    for night in range(3):
        rows = [row(i, *each[night]) for i, (each, _) in enumerate(HISTORIES) if each[night]]
        write(output, rows, f"2026-01-{night + 2:02}", "new")
    return output


def expected(model: str = "new") -> dict[str, float | str]:
    held = [0.125 if model == "old" else holds for _, holds in HISTORIES]
    return {f"{FOLDER}/{i}.jpg": each for i, each in enumerate(held)}


def answer(frame: pd.DataFrame, model: str = "new") -> dict[str, float | str]:
    frame = frame[frame.model == model] if "model" in frame else frame
    assert frame.uri.is_unique
    held = frame.score.astype(object).where(frame.score.notna(), frame.error.astype(object))
    return dict(zip(frame.uri, held, strict=True))


@pytest.mark.parametrize("compacted", [False, True])
def test_every_reader_and_recipe_gives_the_row_that_holds(
    output: str, compacted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compacted:
        compact(output, before="2026-02-01")
    bare = pd.read_parquet(f"{output}/scores")
    assert pl.scan_parquet(f"{output}/scores/").collect().height == len(bare)
    answers = [open_results(output).scores(), rows_that_hold(bare.sample(frac=1, random_state=0))]
    monkeypatch.chdir(Path(output).parent)
    namespace: dict[str, Any] = {}
    section = (
        (ROOT / "docs/results.md").read_text().split("## Which row holds")[1].split("\n## ")[0]
    )
    for block in blocks(section, "python"):
        exec(block, namespace)
    answers += [namespace["held"], namespace["held_sql"]]
    for each in answers:
        for model in ("new", "old"):
            assert answer(each, model) == expected(model)


def test_the_evaluation_measures_the_row_that_holds(output: str) -> None:
    images = [{"uri": uri, "category": "bolt", "label": 0} for uri in expected()]
    rows = pa.Table.from_pylist(images, schema=LABELLED_SCHEMA)
    labelled = LabelledSet("set", "set", "", rows)
    config = EvaluateConfig(
        data=("set",), output=output, scores=output, fingerprint="new", image_size=518
    )
    frame, _ = existing_scores(config, [labelled])
    assert answer(frame.assign(model="new")) == expected()


def test_the_page_shows_the_row_that_holds(output: str) -> None:
    page = gather(output, Query(first="2026-01-02", last="2026-01-04"))
    scores = {uri: each for uri, each in expected().items() if isinstance(each, float)}
    assert {each["uri"]: each["score"] for each in page["gallery"]} == scores
    errors = {each["uri"] for kind in page["errors"] for each in kind["examples"]}
    assert errors
    assert errors <= {uri for uri, each in expected().items() if isinstance(each, str)}


def test_an_error_ends_with_a_newer_row_under_a_category(tmp_path: Path) -> None:
    unnamed = row(0, {"error": "no_category"}, 1) | {"category": None}
    write(str(tmp_path), [unnamed], "2026-01-01")
    write(str(tmp_path), [row(0, 0.5, 1) | {"image_id": "c" * 32}], "2026-01-02")
    assert list(open_results(str(tmp_path)).scores().score) == [0.5]
