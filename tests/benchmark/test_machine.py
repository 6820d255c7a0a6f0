"""What a measurement is told with, and the process that it happens in."""

from __future__ import annotations

import os

import pytest

from pipeline.benchmark import machine
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, read_object


def test_hardware_names_processor_cores_memory_and_gpus() -> None:
    found = machine.hardware()
    assert found["cores"] >= 1
    assert found["memory_bytes"] > 1e8
    assert (found["gpu"] is None) == (found["num_gpus"] == 0)


def test_a_process_of_its_own_gives_results_and_errors_back() -> None:
    assert machine.in_own_process(os.getpid) != os.getpid()
    with pytest.raises(ZeroDivisionError):
        machine.in_own_process(divmod, 1, 0)
    with pytest.raises(StorageError, match="nowhere") as raised:
        machine.in_own_process(read_object, "file:///nowhere/at-all.jpg")
    assert raised.value.code == ErrorCode.NOT_FOUND


def test_busy_cpus_are_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([(100, 1_000), (175, 1_100)])
    monkeypatch.setattr(machine, "_ticks", lambda: next(ticks))
    assert machine.BusyCPUs().share() == 0.75


def test_busy_cpus_are_unknown_where_the_kernel_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "_ticks", lambda: None)
    assert machine.BusyCPUs().share() is None
