"""When which faults happen. Each scenario is a function of a world and a seed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from random import Random

from .images import NUM_IMAGES, key_of
from .plan import Fault, Plan, change_some
from .pressure import FILLER, pressure, used_share
from .processes import RAYLET, READER, SCORER, kill_one, raylet_log
from .world import Driver, Outcome, World

# A run makes about 25 requests before its first fetch, one for each object, and two a commit.
FIRST_FETCH = 25
LAST_FETCH = FIRST_FETCH + NUM_IMAGES
LAST_REQUEST = LAST_FETCH + NUM_IMAGES // 2

MEMORY_LEFT = 0.15  # share of the machine's memory that a run itself may take: 3 of 24 GB
MEMORY_MOST = 0.9  # no scenario may bring the kernel's own killer over other processes
PRESSURE_S = 30.0

Scenario = Callable[[World, int], Outcome]


def storage_storm(world: World, seed: int) -> Outcome:
    """Every second request meets a burst of faults."""
    return world.scenario("storage_storm", seed, Plan(seed, read_rate=0.5, write_rate=0.5))


def failing_writes(world: World, seed: int) -> Outcome:
    """Nearly every write fails at least once, before or after it is applied."""
    return world.scenario("failing_writes", seed, Plan(seed, write_rate=0.9))


def expired_credentials(world: World, seed: int) -> Outcome:
    """At some moment the credentials expire, for the rest of the run."""
    after = Random(seed).randrange(1, LAST_FETCH)
    return world.scenario("expired_credentials", seed, Plan(seed, expire_after=after))


def changed_objects(world: World, seed: int) -> Outcome:
    """A third of the objects is deleted, replaced or grown just before it is fetched."""
    changes = change_some(seed, map(key_of, range(NUM_IMAGES)), 1 / 3)
    plan = Plan(seed, read_rate=0.3, write_rate=0.3, changes=changes)
    return world.scenario("changed_objects", seed, plan)


def driver_killed(world: World, seed: int) -> Outcome:
    """SIGKILL to the driver, at any moment from its first request on."""
    moment = Random(seed).randrange(1, LAST_REQUEST)

    def kill(driver: Driver) -> list[Fault]:
        if not _reached(world, driver, moment):
            return []
        driver.process.kill()
        return [Fault.DRIVER_KILLED]

    return world.scenario("driver_killed", seed, Plan(seed), kill)


def workers_killed(world: World, seed: int) -> Outcome:
    """SIGKILL to a task that reads and to a scorer, each at any moment of its work."""
    random = Random(seed)
    victims = [(READER, Fault.READER_KILLED), (SCORER, Fault.SCORER_KILLED)]
    moments = sorted(random.randrange(FIRST_FETCH, LAST_FETCH) for _ in victims)
    random.shuffle(victims)

    def kill(driver: Driver) -> list[Fault]:
        done = []
        for moment, (title, fault) in zip(moments, victims, strict=True):
            reached = _reached(world, driver, moment)
            if reached and kill_one(world.roots, title, random, give_up=driver.has_ended):
                done.append(fault)
        return done

    return world.scenario("workers_killed", seed, Plan(seed, read_rate=0.1), kill)


def node_killed(world: World, seed: int) -> Outcome:
    """SIGKILL to a node's raylet, with which its workers and objects go; a new node replaces it."""
    random = Random(seed)
    moment = random.randrange(1, LAST_FETCH)

    def kill(driver: Driver) -> list[Fault]:
        node = [world.node_pid]
        reached = _reached(world, driver, moment)
        if not reached or not kill_one(node, RAYLET, random, give_up=driver.has_ended):
            return []
        world.replace_node()
        return [Fault.NODE_KILLED]

    return world.scenario("node_killed", seed, Plan(seed), kill)


def out_of_memory(world: World, seed: int) -> Outcome:
    """A node's memory fills until Ray's memory monitor kills a worker, and is free again then."""
    threshold = used_share() + MEMORY_LEFT
    if threshold > MEMORY_MOST:
        raise RuntimeError(f"{threshold:.0%} of this machine's memory would be used; free some")
    moment = Random(seed).randrange(1, FIRST_FETCH)  # filling takes seconds

    def fill(driver: Driver) -> list[Fault]:
        if not _reached(world, driver, moment):
            return []
        with pressure("memory", str(threshold), environment=os.environ):
            deadline = time.monotonic() + PRESSURE_S
            while not driver.has_ended() and time.monotonic() < deadline:
                if kills := raylet_log(world.node_pid).count("worker(s), kill details"):
                    return [Fault.OUT_OF_MEMORY] * kills
                time.sleep(0.05)
        return []

    # https://docs.ray.io/en/latest/ray-core/scheduling/ray-oom-prevention.html
    world.replace_node(
        RAY_memory_usage_threshold=str(threshold), RAY_memory_monitor_refresh_ms="50"
    )
    try:
        return world.scenario("out_of_memory", seed, Plan(seed), fill)
    finally:
        world.replace_node()


def disk_full(world: World, seed: int) -> Outcome:
    """A node's object store is full and its disk takes no spilled object, for a while."""
    random = Random(seed)

    def fill(driver: Driver) -> list[Fault]:
        environment = {**os.environ, **world.cluster.environment}
        with pressure("store", world.cluster.gcs_address, environment=environment):
            deadline = time.monotonic() + random.uniform(0.2, 1.0) * PRESSURE_S
            while not driver.has_ended() and time.monotonic() < deadline:
                time.sleep(0.05)
        return [Fault.DISK_FULL]

    # Ray takes a disk that is fuller than the threshold as full; 75 MB is its smallest store.
    world.replace_node(
        f'--resources={{"{FILLER}": 1}}',
        f"--object-store-memory={80 * 2**20}",
        RAY_local_fs_capacity_threshold="0.0001",
    )
    try:
        return world.scenario("disk_full", seed, Plan(seed), fill)
    finally:
        world.replace_node()


def _reached(world: World, driver: Driver, request: int) -> bool:
    """Wait until the run made so many requests; false if it ended before."""
    while world.proxy.served < request:
        if driver.has_ended():
            return False
        time.sleep(0.005)
    return True


ALL: tuple[Scenario, ...] = (
    storage_storm,
    failing_writes,
    expired_credentials,
    changed_objects,
    driver_killed,
    workers_killed,
    node_killed,
    out_of_memory,
    disk_full,
)
