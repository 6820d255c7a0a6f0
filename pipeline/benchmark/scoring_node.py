"""Measurements where a scorer would run: the node that a job is submitted to often has no GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

from pipeline.config import BenchmarkConfig
from pipeline.distributed.cluster import connected, is_local
from pipeline.distributed.resources import Resources, node_cpus

from .machine import in_own_process
from .whole_job import make_case

Result = TypeVar("Result")


def on_scoring_node(config: BenchmarkConfig, function: Callable[..., Result], *args: Any) -> Result:
    """Call a function in a fresh process that has what a scorer would get, GPU or CPUs.

    Of a cluster, that is a task on any node with as much; without one, a process on this machine.
    Function, arguments, result and errors travel as with ``in_own_process``.

    Raises:
        CannotRunError: the cluster has too few CPUs for the settings.
    """
    if is_local(config.address):
        return in_own_process(function, *args)
    return in_own_process(_in_task, config, function, *args)


def _in_task(config: BenchmarkConfig, function: Callable[..., Result], *args: Any) -> Result:
    with connected(config.address):
        job = make_case(config, count=1, photo_size=1).job
        plan = Resources.plan(job, ray.cluster_resources(), node_cpus())
        needs = {"num_gpus": plan.gpus_per_actor, "num_cpus": plan.cpus_per_actor}
        # A process of its own, whose memory and CUDA context end with it.
        task = ray.remote(**needs, max_calls=1, max_retries=0)(function)
        try:
            result: Result = ray.get(task.remote(*args))
        except RayTaskError as error:
            raise error.cause from None
        return result
