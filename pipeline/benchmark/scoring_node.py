"""Measurements where a scorer would run: the node that a job is submitted to often has no GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pipeline.config import BenchmarkConfig, is_local
from pipeline.distributed.cluster import connected, run_as_scorer

from .machine import in_own_process
from .whole_job import make_case

Result = TypeVar("Result")


def on_scoring_node(config: BenchmarkConfig, function: Callable[..., Result], *args: Any) -> Result:
    """Call a function in a fresh process: on a cluster with what a scorer gets, else here.

    Function, arguments, result and errors travel as with ``in_own_process``.

    Raises:
        CannotRunError: the cluster has too few CPUs for the settings.
    """
    if is_local(config.address):
        return in_own_process(function, *args)
    return in_own_process(_on_cluster, config, function, *args)


def _on_cluster(config: BenchmarkConfig, function: Callable[..., Result], *args: Any) -> Result:
    with connected(config.address):
        return run_as_scorer(make_case(config, count=1, photo_size=1).job, function, *args)
