"""Measure this machine or cluster: ``python jobs/benchmark.py --help``.

Sizes a cluster: ``python jobs/benchmark.py --images 1e9 --price-per-gpu-hour 3``, also through
``ray job submit --working-dir . -- python jobs/benchmark.py --work s3://bucket/benchmark``.
"""

from __future__ import annotations

import sys

from pipeline.config import BenchmarkConfig
from pipeline.distributed import entry

GOES_ON = "parts that were measured stand in --output, if it was given"


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    # Every part that needs Ray starts its own, in a process of its own.
    return entry.run(lambda: parse(arguments), measure, goes_on=GOES_ON, needs_ray=lambda _: False)


def parse(arguments: list[str] | None = None) -> BenchmarkConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return entry.parse(BenchmarkConfig, "benchmark.py", arguments)


def measure(config: BenchmarkConfig, console: entry.Console) -> int:
    """Measure and show; returns the exit code."""
    # Processes that measure whole jobs import this module: as drivers do, they load no PyTorch.
    from pipeline.benchmark.run import run_benchmark, shown

    try:
        document = run_benchmark(config, say=console.say)
    except ValueError as error:  # no such model, or a run too small to project from
        return console.fail(error, entry.CANNOT_RUN)
    print(shown(document))
    return entry.DONE


if __name__ == "__main__":
    sys.exit(main())
