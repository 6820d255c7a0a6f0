"""What every worker is told, and where it begins.

The driver and Ray Train's controller hold this without PyTorch, which only workers load.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from ray.train import BackendConfig
from ray.train.backend import Backend
from ray.util.queue import Queue

from pipeline.config import TrainConfig


@dataclass(frozen=True)
class WorkerTask:
    """What the driver tells every worker."""

    config: TrainConfig
    output: str
    train: pa.Table
    """``schema.LABELLED_SCHEMA`` and the columns ``dataset`` and ``mosaic_rate``."""
    held_out: pa.Table
    """The same columns; may have no rows."""
    num_threads: int
    messages: Queue
    """Receives what ``messages`` holds."""
    claim: bytes | None = None
    """config.json of an output that is new; worker 0 writes it once the model is there."""


def train_worker(settings: dict[str, WorkerTask]) -> None:
    """Train from the output's checkpoint to the end; worker 0 writes the weights."""
    from .worker import work  # not above: the driver and the controller name this function

    work(settings["task"])


class _Backend(Backend):
    share_cuda_visible_devices = True  # NCCL reaches the GPUs of other workers on a node


class PyTorchWorkers(BackendConfig):
    """In the place of Ray Train's ``TorchConfig``, for which driver and controller load PyTorch.

    Workers join their process group themselves.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        """What the controller sets up before workers start."""
        return _Backend
