"""How scorers and readers share a cluster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray

from pipeline.errors import CannotRunError

if TYPE_CHECKING:  # readers import this, and need no settings
    from pipeline.config import ScoreConfig

GPU_BATCH_SIZE = 16
CPU_BATCH_SIZE = 4
BLOCK_BYTES = 110e6  # of pixels, 128 images at 518 px: Ray Data would split blocks above 128 MiB
# Of small images: with 512 a task's own costs don't show any more (a third of the time at 128), and
# the last blocks of a run, for which all wait, stay short.
BLOCK_ROWS = 512
CPU_BATCHES_PER_BLOCK = 2  # a CPU takes seconds an image: small blocks keep progress visible
# A reader waits for storage about as long as it decodes, so two share a CPU. Ray Data fuses stages
# of equal resources: readers and scorers must differ, or decoding would move into the scorers.
CPUS_PER_READER = 0.5
# Two readers fit beside the scorers of the smallest machine, where every process delays the first
# rows; a tenth, so that none claims as much as a reader.
CPUS_BESIDE_SCORERS = 2 * CPUS_PER_READER + 0.1


@dataclass(frozen=True)
class Resources:
    """How the scorers are laid out on the cluster."""

    num_actors: int
    gpus_per_actor: float
    cpus_per_actor: int
    """0 for GPU scorers, which must not take the CPUs that feed them."""
    batch_size: int

    @classmethod
    def plan(
        cls, config: ScoreConfig, cluster: dict[str, float], node_cpus: Sequence[int] = ()
    ) -> Resources:
        """Fill in what the configuration leaves open.

        Args:
            cluster: ``ray.cluster_resources()``.
            node_cpus: CPUs of each node, which no actor can cross; default: one node has all.

        Raises:
            CannotRunError: no CPU would be left for reading.
        """
        num_gpus, num_cpus = cluster.get("GPU", 0.0), int(cluster.get("CPU", 0.0))
        gpus = config.gpus_per_actor
        if gpus is None:
            gpus = 1.0 if num_gpus else 0.0
        if gpus:
            fitting = int(num_gpus) * int(1 / gpus)
            num_actors = config.num_actors or max(1, fitting)
            return cls(num_actors, gpus, 0, config.batch_size or GPU_BATCH_SIZE)
        num_actors = config.num_actors or 1
        if num_actors >= num_cpus:
            raise CannotRunError(
                f"{num_actors} CPU scorers and the readers need at least {num_actors + 1} CPUs, "
                f"the Ray cluster has {num_cpus}; lower --num-actors or add CPUs"
            )
        cpus = _cpus_per_actor(num_actors, node_cpus or [num_cpus])
        return cls(num_actors, 0.0, cpus, config.batch_size or CPU_BATCH_SIZE)

    def rows_per_block(self, image_size: int, num_images: int) -> int:
        """Whole batches, so that no forward pass runs half empty at the end of a block.

        Args:
            num_images: of the whole run; every scorer shall get some of them.
        """
        share = math.ceil(num_images / self.num_actors / self.batch_size)
        if self.gpus_per_actor:
            rows = min(BLOCK_ROWS, BLOCK_BYTES // (3 * image_size**2))
            most = int(rows // self.batch_size)
        else:
            most = CPU_BATCHES_PER_BLOCK
        return self.batch_size * max(1, min(share, most))

    @property
    def claimed_cpus(self) -> float:
        """CPUs that Ray counts for each scorer: fewer than it computes on."""
        if not self.cpus_per_actor:
            return 0.0
        return self.cpus_per_actor - (CPUS_BESIDE_SCORERS - 1) / self.num_actors


def _cpus_per_actor(num_actors: int, node_cpus: Sequence[int]) -> int:
    """The most CPUs that every scorer finds on one node, with one left over for the readers."""
    for cpus in range((sum(node_cpus) - 1) // num_actors, 1, -1):
        if sum(node // cpus for node in node_cpus) >= num_actors:
            return cpus
    return 1


def node_cpus() -> list[int]:
    """CPUs of each node of the cluster."""
    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
