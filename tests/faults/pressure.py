"""Memory and disk that run out: processes that take what Ray would need.

``python -m tests.faults.pressure memory 0.8`` fills the machine's memory up to that share;
``... store HOST:PORT`` fills the object store of the node with the resource ``FILLER``. Both hold
what they took until their standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
CHUNK_BYTES = 32 * 2**20
OVERSHOOT = 0.02  # of the machine's memory: other processes must not free what was just taken
FILLER = "filler"


@contextmanager
def pressure(*arguments: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Take memory or store in a process of its own; it is taken when the block begins."""
    command = [sys.executable, "-m", "tests.faults.pressure", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            while (line := process.stdout.readline()) != b"full\n":
                if not line:
                    raise RuntimeError(f"{' '.join(arguments)}: nothing was filled")
            yield
        finally:
            process.stdin.close()


def used_share() -> float:
    """Share of the machine's memory that is in use."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return 1 - values["MemAvailable"] / values["MemTotal"]


def _fill_memory(share: float) -> object:
    taken = []
    while used_share() < share + OVERSHOOT:
        taken.append(np.ones(CHUNK_BYTES, dtype=np.uint8))
    return taken


def _fill_store(address: str) -> object:
    import ray

    class Filler:
        """Holds objects until neither the store nor the disk of its node takes more."""

        def __init__(self) -> None:
            self._held: list[ray.ObjectRef] = []

        def fill(self) -> None:
            with suppress(ray.exceptions.OutOfDiskError):
                while True:
                    self._held.append(ray.put(np.ones(CHUNK_BYTES // 8, dtype=np.uint8)))

    ray.init(address=address, log_to_driver=False)
    actor = ray.remote(num_cpus=0, resources={FILLER: 1})(Filler).remote()
    ray.get(actor.fill.remote())
    return actor


def main() -> None:
    """Fill, say so, hold."""
    kind, amount = sys.argv[1:]
    held = _fill_memory(float(amount)) if kind == "memory" else _fill_store(amount)
    print("full", flush=True)
    sys.stdin.read()
    del held


if __name__ == "__main__":
    main()
