"""The figures of docs/choosing.md: the paper's, those that were measured, and its arithmetic."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from pipeline.calibration.limits import find_limit
from pipeline.evaluation.paper import paper_results
from tests.docs.snippets import ROOT

PAGE = (ROOT / "docs/choosing.md").read_text()


def test_figures_of_the_paper_are_the_papers() -> None:
    results = paper_results().query("method == 'AdaCLIP'").set_index(["dataset", "level"])
    shown = re.findall(
        r"^\| ([\w -]+) \| ([\d.]*) ?\| ([\d.]*) ?\| ([\d.]*) ?\| ([\d.]*) ?\|$", PAGE, re.M
    )
    assert {name for name, *_ in shown} == {
        {"MVTec": "MVTec AD"}.get(name, name) for name, _ in results.index
    }
    for name, *figures in shown:
        of_name = results.loc[name.removesuffix(" AD")]
        for level, pair in (("image", figures[:2]), ("pixel", figures[2:])):
            if level in of_name.index:
                row = of_name.loc[level]
                assert pair == [f"{row.auroc:.1f}", f"{row.max_f1:.1f}"], (name, level)
            else:
                assert pair == ["", ""], (name, level)


def test_figures_of_references_are_those_of_their_page() -> None:
    text = (ROOT / "docs/references.md").read_text()
    measured = {
        cells[0]: [cell.split(" · ")[0] for cell in cells[1:]]
        for line in re.findall(r"^\| (.* · .*) \|$", text, re.M)
        for cells in [line.split(" | ")]
    }
    rows = ("AdaCLIP alone", "8 known-good", "5 %")
    expected = list(zip(*(measured[name] for name in rows), strict=True))
    table = PAGE[PAGE.index("| | AdaCLIP alone |") :]
    shown = re.findall(r"^\| [^|]+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", table, re.M)
    assert shown == expected


def test_promises_are_those_that_calibration_makes() -> None:
    table = PAGE[PAGE.index("| known-good images of a part |") :]
    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) % \|$", table, re.M)
    assert [count for count, _ in rows] == ["12", "24", "36", "48", "59", "100", "300", "1,000"]
    for count, promised in rows:
        number = int(count.replace(",", ""))
        bound = find_limit(np.arange(number), 1e-6, 0.95).bound
        assert bound == pytest.approx(1 - 0.05 ** (1 / number))
        assert promised == f"{100 * bound:.1f}"


def test_seconds_and_days_are_those_of_the_benchmarks() -> None:
    for precision, seconds, days in (("fp32", "14.1 s", "33 days"), ("bf16", "3.9 s", "9 days")):
        file = ROOT / f"docs/benchmarks/model-cpu-{precision}.json"
        (result,) = json.loads(file.read_text())["results"]
        cpu = result["predict"]["cpu_median_s"]
        assert seconds == f"{cpu:.1f} s"
        assert days == f"{200_000 * cpu / 86_400:.0f} days"
        assert seconds in PAGE
        assert days in PAGE
        assert f"| {result['peak_memory_bytes'] / 1e9:.1f} GB |" in PAGE


def test_the_example_of_money_is_right() -> None:
    frame = pd.DataFrame({"rate": [10, 40]})
    frame["hours"] = 1e6 / (3_600 * frame.rate)
    assert frame.hours.round(1).tolist() == [27.8, 6.9]
    assert (3 * frame.hours).round().tolist() == [83, 21]
    assert "27.8 hours on one GPU, which cost 83. At 40 images per second" in PAGE
    assert "6.9 hours and 21" in PAGE
