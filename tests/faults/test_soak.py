"""The soak's table and command line."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.faults.checks import Findings
from tests.faults.plan import Fault
from tests.faults.soak import SoakConfig, document, main, render, tabulate
from tests.faults.world import Outcome


def test_the_table_counts_by_kind_and_once_in_all() -> None:
    storm = Outcome("storage_storm", 1, Counter({Fault.SLOW_DOWN: 7, Fault.RESET: 2}), runs=2)
    killed = Outcome("driver_killed", 2, Counter({Fault.DRIVER_KILLED: 1}), runs=2)
    killed.findings = Findings(lost=["a"], exit_codes=["0, but failed"])
    table = tabulate([storm, killed])
    assert list(table[Fault.SLOW_DOWN].values()) == [7, 2, 0, 0, 0, 0]
    assert list(table[Fault.DRIVER_KILLED].values()) == [1, 2, 1, 0, 1, 0]
    assert list(table["all"].values()) == [10, 4, 1, 0, 1, 0]
    assert list(table) == [*Fault, "all"]
    assert len({len(line) for line in render(table).splitlines()[:-1]}) == 1


def test_the_document_holds_every_outcome() -> None:
    outcome = Outcome("storage_storm", 4, Counter({Fault.RESET: 2}), runs=2, returncodes=[1, 0])
    outcome.findings = Findings(lost=["a"])
    found = json.loads(document(SoakConfig(seed=4), [outcome], 90.0))
    assert (found["seed"], found["minutes"]) == (4, 1.5)
    (scenario,) = found["scenarios"]
    assert scenario["injected"] == {"connection reset": 2}
    assert (scenario["returncodes"], scenario["findings"]["lost"]) == ([1, 0], ["a"])


def test_an_unknown_scenario_is_refused_before_anything_starts() -> None:
    with pytest.raises(SystemExit, match=r"unknown scenario storm; there are: storage_storm"):
        main(["--only", "storm"])
