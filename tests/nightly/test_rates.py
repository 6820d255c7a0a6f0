"""Estimates from the reports of past runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.identity import ModelIdentity
from pipeline.nightly.rates import RUNS, past_rates
from pipeline.storage import write_object


def report(output: Path, night: int, rate: float | None, **changes: Any) -> None:
    data = {
        "model": "m",
        "counts": {"scored": 90, "errors": 10},
        "images_per_s": {"run": rate},
        "seconds": {"model": 5.0, "list": 7.0, "run": 50.0},
        **changes,
    }
    uri = f"{output}/runs/202601{night:02d}T020000Z-abc/report.json"
    write_object(uri, json.dumps(data).encode())


def test_an_output_without_runs_has_no_rates(tmp_path: Path) -> None:
    assert past_rates(str(tmp_path / "new"), ModelIdentity("m")) is None


def test_rates_are_medians_of_the_newest_runs_of_the_model_that_did_something(
    tmp_path: Path,
) -> None:
    report(tmp_path, 1, 1e9)  # too long ago
    for night in range(2, 2 + RUNS):
        report(tmp_path, night, float(night))
    report(tmp_path, 20, None)
    report(tmp_path, 21, 1e9, counts={"scored": 3, "errors": 0})
    report(tmp_path, 22, 1e9, model="another")
    report(tmp_path, 23, 1e9, counts=None)
    write_object(f"{tmp_path}/runs/20260124T020000Z-abc/report.json", b"damaged")
    write_object(f"{tmp_path}/runs/20260125T020000Z-abc/config.json", b"{}")
    rates = past_rates(str(tmp_path), ModelIdentity("m"))
    assert rates is not None
    assert (rates.num_runs, rates.images_per_s, rates.start_s) == (RUNS, 6.5, 12.0)
    assert rates.seconds(650) == pytest.approx(112.0)
    assert rates.seconds(0) == 12.0


def test_runs_with_references_are_told_from_those_with_some(tmp_path: Path) -> None:
    """Which sets does not matter: they change from night to night."""
    with_references = ModelIdentity("m", {"bolt": "3"})
    seconds = {"model": 5.0, "list": 7.0, "references": 30.0, "run": 50.0}
    report(tmp_path, 1, 8.0, references={})
    assert past_rates(str(tmp_path), with_references) is None
    report(tmp_path, 2, 4.0, references={"uri": "auto", "sets": {"nut": "1"}}, seconds=seconds)
    plain, slower = (
        past_rates(str(tmp_path), identity) for identity in (ModelIdentity("m"), with_references)
    )
    assert plain is not None
    assert slower is not None
    assert (plain.images_per_s, plain.start_s) == (8.0, 12.0)
    assert (slower.images_per_s, slower.start_s) == (4.0, 42.0)
