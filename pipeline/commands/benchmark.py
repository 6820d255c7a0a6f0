"""``adaclip benchmark``: measure this machine or cluster."""

from __future__ import annotations

from pipeline import command
from pipeline.config import BenchmarkConfig

GOES_ON = "parts that were measured stand in --output, if it was given"


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    return command.run(lambda: parse(arguments), measure, goes_on=GOES_ON)


def parse(arguments: list[str] | None = None) -> BenchmarkConfig:
    """The settings of a command line (default: this process's); exits with 2 if it is wrong."""
    return command.parse(BenchmarkConfig, "benchmark", arguments)


def measure(config: BenchmarkConfig) -> int:
    """Measure and show; returns the exit code."""
    # Processes that measure whole jobs import this module: as drivers do, they load no PyTorch.
    from pipeline.benchmark.run import run_benchmark, shown

    try:
        document = run_benchmark(config)
    except ValueError as error:  # no such model, or a run too small to project from
        return command.fail(error, command.CANNOT_RUN)
    print(shown(document))
    return command.DONE
