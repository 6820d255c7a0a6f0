"""Inject faults for as long as one likes: ``python -m tests.faults.soak --minutes 30 --seed 1``.

Prints what was injected and what was lost or doubled (0 and 0), and writes the same as JSON. Exit
code 1 if anything does not hold. A scenario that failed is repeated by its own name and seed:
``--minutes 0 --only node_killed --seed 7``.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import tyro

from infra.local import s3_server, seaweedfs_server
from pipeline.provenance import versions

from .images import NUM_IMAGES
from .plan import Fault
from .scenarios import ALL, Scenario
from .world import Outcome, World, world

# What tests/conftest.py does for tests: neither the user's settings nor the network play a part.
ISOLATED = {"AWS_EC2_METADATA_DISABLED": "true", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
SERVERS = {"moto": s3_server, "seaweedfs": seaweedfs_server}
COLUMNS = ("injected", "runs", "rows lost", "rows doubled", "wrong exit codes", "wrong otherwise")


@dataclass(frozen=True, kw_only=True)
class SoakConfig:
    """Run fault scenarios one after the other and check each."""

    minutes: float = 30.0
    """No scenario starts later than this; each runs at least once."""
    seed: int = 1
    """Seed of the first scenario; the next ones count on."""
    only: tuple[str, ...] = ()
    """Names of scenarios, such as node_killed. Default: all."""
    server: Literal["moto", "seaweedfs"] = "moto"
    """The S3 server behind the faults."""
    output: Path = Path("soak.json")
    """Receives the table and every scenario's outcome as JSON."""


def soak(config: SoakConfig, running: World) -> Iterator[Outcome]:
    """Outcomes of the scenarios in turn, each with a seed of its own."""
    ends = time.monotonic() + 60 * config.minutes
    chosen = _chosen(config.only)
    for turn in count():
        if turn >= len(chosen) and time.monotonic() >= ends:
            return
        yield chosen[turn % len(chosen)](running, config.seed + turn)


def tabulate(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """The counts by kind of fault; a scenario's findings count for each kind it injected."""
    table = {fault.value: dict.fromkeys(COLUMNS, 0) for fault in Fault}
    for outcome in outcomes:
        for fault, injected in outcome.injected.items():
            _add(table[fault.value], outcome, injected)
    total = dict.fromkeys(COLUMNS, 0)
    for outcome in outcomes:
        _add(total, outcome, sum(outcome.injected.values()))
    return {**table, "all": total}


def render(table: dict[str, dict[str, int]]) -> str:
    """The table for a terminal."""
    width = max(map(len, table)) + 2
    lines = ["".join([f"{'fault':<{width}}", *[f"{name:>18}" for name in COLUMNS]])]
    for fault, counts in table.items():
        lines.append("".join([f"{fault:<{width}}", *[f"{counts[n]:>18,}" for n in COLUMNS]]))
    lines.append("(each failed, cut or delayed request is one fault; kinds share runs)")
    return "\n".join(lines)


def document(config: SoakConfig, outcomes: Sequence[Outcome], elapsed_s: float) -> str:
    """The soak as JSON."""
    found = {
        "seed": config.seed,
        "server": config.server,
        "minutes": round(elapsed_s / 60, 1),
        "objects_per_scenario": NUM_IMAGES,
        "table": tabulate(outcomes),
        # Not dataclasses.asdict, which counts the items of a Counter anew.
        "scenarios": [{**vars(each), "findings": vars(each.findings)} for each in outcomes],
        "versions": versions(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }
    return json.dumps(found, indent=2)


def main(arguments: list[str] | None = None) -> int:
    """Parse, soak, print; returns the exit code."""
    config = tyro.cli(SoakConfig, prog="soak", args=arguments)
    _chosen(config.only)
    outcomes: list[Outcome] = []
    started = time.monotonic()
    with SERVERS[config.server]() as s3:
        os.environ.update({**ISOLATED, **s3})
        with world(s3["AWS_ENDPOINT_URL"]) as running:
            for outcome in soak(config, running):
                outcomes.append(outcome)
                elapsed_s = time.monotonic() - started
                print(_line(outcome, elapsed_s), flush=True)
                config.output.write_text(document(config, outcomes, elapsed_s))
    print(render(tabulate(outcomes)))
    print(f"seed {config.seed}; details in {config.output}")
    return 1 if any(outcome.findings for outcome in outcomes) else 0


def _chosen(only: Sequence[str]) -> list[Scenario]:
    names = {scenario.__name__: scenario for scenario in ALL}
    if unknown := set(only) - set(names):
        raise SystemExit(f"unknown scenario {', '.join(unknown)}; there are: {', '.join(names)}")
    return [names[name] for name in only] or list(ALL)


def _add(counts: dict[str, int], outcome: Outcome, injected: int) -> None:
    found = outcome.findings
    added = (found.lost, found.doubled, found.exit_codes, found.wrong)
    values = (injected, outcome.runs, *map(len, added))
    for name, value in zip(COLUMNS, values, strict=True):
        counts[name] += value


def _line(outcome: Outcome, elapsed_s: float) -> str:
    codes = ", ".join(map(str, outcome.returncodes))
    faults = sum(outcome.injected.values())
    state = "holds" if not outcome.findings else f"DOES NOT HOLD: {vars(outcome.findings)}"
    start = f"{elapsed_s / 60:5.1f} min  {outcome.name}, seed {outcome.seed}: {faults} faults"
    return f"{start}, exit codes {codes}: {state}"


if __name__ == "__main__":
    sys.exit(main())
