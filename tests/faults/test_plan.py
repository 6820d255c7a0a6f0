"""Faults by seed."""

from __future__ import annotations

from tests.faults.plan import CHANGES, MAX_BURST, READ_FAULTS, WRITE_FAULTS, Plan, change_some

KEYS = [f"/in/{i}.jpg" for i in range(500)]


def faults(plan: Plan, method: str) -> list[list[object]]:
    return [[plan.fault(method, key, n) for n in range(1, MAX_BURST + 2)] for key in KEYS]


def test_a_seed_gives_the_same_faults_and_another_seed_others() -> None:
    plan = Plan(3, read_rate=0.5)
    assert faults(plan, "GET") == faults(Plan(3, read_rate=0.5), "GET")
    assert faults(plan, "GET") != faults(Plan(4, read_rate=0.5), "GET")


def test_as_many_requests_meet_faults_as_the_rate_says_and_each_burst_ends() -> None:
    for method, kinds in (("GET", READ_FAULTS), ("PUT", WRITE_FAULTS)):
        found = faults(Plan(1, read_rate=0.4, write_rate=0.4), method)
        hit = [burst for burst in found if burst[0]]
        assert 0.3 < len(hit) / len(found) < 0.5
        assert {fault for burst in hit for fault in burst if fault} == set(kinds)
        assert all(burst[-1] is None for burst in found)
        assert any(burst[5 - 1] for burst in hit)  # some outlast botocore's five attempts


def test_run_ids_are_no_part_of_a_requests_identity() -> None:
    plan = Plan(1, write_rate=0.5)
    one, other = "20260101T000000Z-0a1b2c", "20270202T111111Z-ffffff"
    for i in range(50):
        name = f"/out/scores/{{}}-{i:05d}.parquet"
        assert plan.fault("PUT", name.format(one), 1) == plan.fault("PUT", name.format(other), 1)


def test_changes_are_a_share_of_the_objects() -> None:
    changes = change_some(1, KEYS, 0.3)
    assert changes == change_some(1, reversed(KEYS), 0.3)
    assert 100 < len(changes) < 200
    assert set(changes.values()) == set(CHANGES)
