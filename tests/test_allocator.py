"""Memory of a driver: from the C library, and given back when it is free."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.allocator import ARROW_POOL

COMMAND = """
import os
from pipeline import allocator, command
from pipeline.config import ScoreConfig

def work(config):
    import pyarrow
    print(pyarrow.default_memory_pool().backend_name, os.environ.get(allocator.ARROW_POOL))
    return 0

command.run(lambda: ScoreConfig(input=("in",), output="out"), work, goes_on="")
"""
# Pieces that stay hold their pages; those between them are free.
FREED = """
from pathlib import Path
import numpy as np
from pipeline.allocator import arrow_from_the_system, give_back

def held():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) >> 10

with arrow_from_the_system():
    import pyarrow
pieces = [np.ones(4_000) for _ in range(3_000)]
full = held()
pieces = pieces[::50]
freed = held()
give_back()
print(full - freed, freed - held())
"""


def run(code: str, environment: dict[str, str]) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout


@pytest.fixture
def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != ARROW_POOL}


@pytest.mark.parametrize(
    ("given", "shown"), [(None, "system None\n"), ("mimalloc", "mimalloc mimalloc\n")]
)
def test_a_command_has_arrow_without_its_allocator_and_its_workers_with_it(
    environment: dict[str, str], given: str | None, shown: str
) -> None:
    assert run(COMMAND, environment | ({} if given is None else {ARROW_POOL: given})) == shown


@pytest.mark.skipif(sys.platform != "linux", reason="as the C library of Linux keeps memory")
def test_what_is_free_goes_back_to_the_system(environment: dict[str, str]) -> None:
    by_itself, given_back = map(int, run(FREED, environment).split())
    assert by_itself < 10 < 50 < given_back  # of 96 MB
