"""The workers of a run as one group: where each is, and sums over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.train.collective import broadcast_from_rank_zero
from torch import Tensor, nn

GROUP_TIMEOUT_S = 1800  # Ray Train's own; one worker may download weights while others wait


def own_device() -> torch.device:
    """The GPU that Ray gave this worker, or the CPU."""
    if not ray.get_gpu_ids():
        return torch.device("cpu")
    from ray.train.torch import get_device  # half a second of imports

    device: torch.device = get_device()
    return device


def join(rank: int, num_workers: int, device: torch.device) -> None:
    """Make the process group; a worker alone needs none."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if num_workers == 1:
        return
    make_store: Any = dist.TCPStore  # type: ignore[attr-defined]
    host, port, store = "", 0, None
    if rank == 0:
        host = ray.util.get_node_ip_address()
        store = make_store(host, 0, num_workers, is_master=True, wait_for_workers=False)
        port = store.port
    host, port = broadcast_from_rank_zero((host, port))
    if store is None:
        store = make_store(host, port, num_workers)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=num_workers,
        timeout=timedelta(seconds=GROUP_TIMEOUT_S),
    )


def sum_over_workers(parameters: Sequence[nn.Parameter], statistics: Tensor) -> Tensor:
    """Sum gradients (in place) and statistics (returned) over all workers, in one operation.

    ``DistributedDataParallel`` would have to search every step for parameters without a gradient,
    of which each ablation leaves others. Here they count as 0; one without a gradient on every
    worker keeps none, as on a single worker.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return statistics
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    present = statistics.new_tensor([p.grad is not None for p in parameters])
    parts = [*gradients, present, statistics]
    flat = torch.cat([part.flatten() for part in parts])
    dist.all_reduce(flat)
    *sums, present, statistics = flat.split([part.numel() for part in parts])
    for parameter, total, count in zip(parameters, sums, present.tolist(), strict=True):
        parameter.grad = total.view_as(parameter) if count else None
    return statistics
