"""The quick subset of the soak: after every kind of fault, each object has one right row."""

from __future__ import annotations

import pytest

from tests.faults.plan import CHANGES, Fault
from tests.faults.scenarios import (
    Scenario,
    changed_objects,
    driver_killed,
    expired_credentials,
    node_killed,
    workers_killed,
)
from tests.faults.world import World

# Seeds whose moments are spread over a run: reading, scoring and committing.
STORAGE = {Fault.SLOW_DOWN, Fault.RESET, Fault.CUT}


@pytest.mark.parametrize(
    ("scenario", "seed", "faults"),
    [
        (changed_objects, 8, {*CHANGES, *STORAGE, Fault.PUT_UNACKNOWLEDGED}),
        (expired_credentials, 7, {Fault.EXPIRED}),
        (driver_killed, 6, {Fault.DRIVER_KILLED}),
        (workers_killed, 3, {Fault.READER_KILLED, Fault.SCORER_KILLED}),
        (node_killed, 9, {Fault.NODE_KILLED}),
    ],
)
def test_nothing_is_lost_doubled_or_wrong(
    faulty_world: World, scenario: Scenario, seed: int, faults: set[Fault]
) -> None:
    outcome = scenario(faulty_world, seed)
    assert faults <= set(outcome.injected)
    assert outcome.returncodes[-1] == 0
    assert vars(outcome.findings) == {"lost": [], "doubled": [], "exit_codes": [], "wrong": []}
