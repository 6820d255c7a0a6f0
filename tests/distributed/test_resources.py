"""How scorers are laid out on a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import ScoreConfig
from pipeline.distributed.resources import CPUS_PER_READER, Resources
from pipeline.errors import CannotRunError


def plan(cluster: dict[str, float], **settings: Any) -> Resources:
    return Resources.plan(ScoreConfig(input=("in",), output="out", **settings), cluster)


def test_every_gpu_gets_a_scorer_and_no_cpu_is_taken_from_the_readers() -> None:
    found = plan({"GPU": 8, "CPU": 8})
    assert (found.num_actors, found.gpus_per_actor, found.cpus_per_actor) == (8, 1.0, 0)


@pytest.mark.parametrize(("share", "num_actors"), [(0.5, 4), (0.6, 2), (0.25, 8)])
def test_shares_of_a_gpu_do_not_cross_gpus(share: float, num_actors: int) -> None:
    assert plan({"GPU": 2, "CPU": 8}, gpus_per_actor=share).num_actors == num_actors


def test_gpus_that_start_on_demand_are_counted_by_the_flags() -> None:
    found = plan({"CPU": 2}, gpus_per_actor=1, num_actors=16)
    assert (found.num_actors, found.gpus_per_actor) == (16, 1)


def test_a_cluster_without_gpus_runs_on_its_cpus_but_for_one() -> None:
    found = plan({"CPU": 16})
    assert (found.num_actors, found.gpus_per_actor, found.cpus_per_actor) == (1, 0, 15)
    assert plan({"CPU": 2}).cpus_per_actor == 1


@pytest.mark.parametrize(
    ("node_cpus", "num_actors", "expected"),
    [([2, 2], 1, 2), ([0, 8, 8], 1, 8), ([8, 8], 2, 7), ([8, 8], 3, 4), ([1, 1, 1], 2, 1)],
)
def test_no_scorer_asks_for_more_cpus_than_a_node_has(
    node_cpus: list[int], num_actors: int, expected: int
) -> None:
    config = ScoreConfig(input=("in",), output="out", num_actors=num_actors)
    found = Resources.plan(config, {"CPU": sum(node_cpus)}, node_cpus)
    assert found.cpus_per_actor == expected


@pytest.mark.parametrize(("num_cpus", "num_actors"), [(2, 1), (4, 1), (4, 3), (16, 1), (16, 5)])
def test_readers_fit_beside_scorers(num_cpus: int, num_actors: int) -> None:
    found = plan({"CPU": num_cpus}, num_actors=num_actors)
    claimed = num_actors * found.claimed_cpus
    assert 0 < claimed <= num_cpus - 2 * CPUS_PER_READER
    assert found.claimed_cpus != CPUS_PER_READER, "or Ray Data would fuse both stages"


def test_two_scorers_do_not_share_a_cpu() -> None:
    config = ScoreConfig(input=("in",), output="out", num_actors=2)
    found = Resources.plan(config, {"CPU": 3}, [1, 1, 1])
    assert 2 * found.claimed_cpus > 1


def test_gpu_scorers_claim_no_cpu() -> None:
    assert plan({"GPU": 8, "CPU": 8}).claimed_cpus == 0


def test_scorers_that_leave_no_cpu_for_readers_are_refused() -> None:
    with pytest.raises(CannotRunError, match="at least 5 CPUs, the Ray cluster has 4"):
        plan({"CPU": 4}, num_actors=4)


def test_blocks_are_whole_batches_below_ray_datas_limit() -> None:
    found = plan({"GPU": 1, "CPU": 4})
    assert found.rows_per_block(518, 10**6) == 128
    assert found.rows_per_block(518, 10**6) * 518 * 518 * 3 < 128 * 2**20
    large = plan({"GPU": 1, "CPU": 4}, batch_size=64)
    assert large.rows_per_block(518, 10**6) == 128


def test_blocks_of_small_images_are_not_much_larger() -> None:
    """Of 70 px they were 7,472 rows: a run of 10,000 images kept two readers busy."""
    found = plan({"GPU": 1, "CPU": 4})
    assert found.rows_per_block(336, 10**6) == 320
    assert found.rows_per_block(70, 10**6) == 512
    assert plan({"GPU": 1, "CPU": 4}, batch_size=1_024).rows_per_block(70, 10**6) == 1_024


def test_a_small_run_is_shared_by_all_scorers() -> None:
    found = plan({"GPU": 8, "CPU": 8})
    assert found.rows_per_block(518, 256) == 32
    assert found.rows_per_block(518, 3) == 16
