"""Mutual scoring, against ``torch.cdist`` of every image with every other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.provenance import memory_bytes, peak_memory_bytes
from pipeline.references.mutual import SHARE, mutual_scores

from .machine import BusyCPUs, reset_peak_memory
from .timing import Stopwatch, clock_of, rounded, steadier

PEER_LIMIT_S = 120.0  # by the clock on the wall; then the images that are left are extrapolated
NUM_CENTRES = 50


def independent(num_images: int, num_patches: int, width: int) -> Tensor:
    """Unit tokens [M, N, C] that have nothing in common: all distances are about √2."""
    generator = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(num_images, num_patches, width, generator=generator), dim=-1)


def clustered(num_images: int, num_patches: int, width: int, *, spread: float) -> Tensor:
    """Unit tokens [M, N, C] around fifty points: a patch has many neighbours about as near.

    Args:
        spread: standard deviation of a coordinate, in those of the points.
    """
    tokens = independent(num_images, num_patches, width)
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(NUM_CENTRES, width, generator=generator)
    labels = torch.randint(NUM_CENTRES, (num_images, num_patches), generator=generator)
    noise = spread * width**0.5
    for image, chosen in zip(tokens, labels, strict=True):
        image.mul_(noise).add_(centres[chosen])
    return F.normalize(tokens, dim=-1)


TOKENS: dict[str, Callable[[int, int, int], Tensor]] = {
    "independent": independent,
    "clustered": partial(clustered, spread=0.3),
    "tightly clustered": partial(clustered, spread=0.03),
}


def directly(tokens: Tensor, image: int, share: float = SHARE) -> Tensor:
    """Scores [N] of one image, as ``mutual_scores``: the definition, written down."""
    distances = torch.stack(
        [
            torch.cdist(tokens[image], other).min(dim=1).values
            for j, other in enumerate(tokens)
            if j != image
        ]
    )
    count = int(share * len(distances))
    return distances.topk(count, dim=0, largest=False).values.mean(dim=0)


def measure_mutual(
    num_images: int = 60,
    num_patches: int = 1_369,
    width: int = 1_024,
    *,
    num_threads: int = 1,
    peer_limit_s: float = PEER_LIMIT_S,
) -> list[dict[str, Any]]:
    """Speed, deviation and memory on tokens of one layer and window; Linux only.

    On one thread, by processor time: other work on the machine hardly counts.

    Returns:
        A row for each kind of ``TOKENS``. ``mutual_pairs`` are unordered: one product serves both
        images. The peer's are ordered; where ``peer_pairs_measured`` is less than ``peer_pairs``,
        ``peer_s`` is extrapolated from those. ``max_deviation`` is that of the images measured.
        ``memory_bytes`` is what mutual scoring takes beside its tokens.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        return [
            {"tokens": name, **_measure(make(num_images, num_patches, width), peer_limit_s)}
            for name, make in TOKENS.items()
        ]
    finally:
        torch.set_num_threads(before)


def _measure(tokens: Tensor, peer_limit_s: float) -> dict[str, Any]:
    num_images, num_patches, width = tokens.shape
    watch, cpus = Stopwatch(tokens.device), BusyCPUs()
    reset_peak_memory()
    resident = memory_bytes("VmRSS")
    scores = watch("mutual", lambda: mutual_scores(tokens))
    memory = peak_memory_bytes() - resident
    order = torch.randperm(num_images, generator=torch.Generator().manual_seed(0)).tolist()
    deviation, measured = 0.0, 0
    for i in order:
        found = watch("peer", partial(directly, tokens, i))
        deviation = max(deviation, float((found - scores[i]).abs().max()))
        measured += 1
        if sum(watch["peer"].wall_s) > peer_limit_s:
            break
    mutual_s = sum(steadier(watch["mutual"], tokens.device))
    peer_s = sum(steadier(watch["peer"], tokens.device)) * num_images / measured
    return {
        "num_images": num_images,
        "num_patches": num_patches,
        "width": width,
        "num_threads": torch.get_num_threads(),
        "clock": clock_of(tokens.device),
        "mutual_pairs": num_images * (num_images - 1) // 2,
        "peer_pairs": num_images * (num_images - 1),
        "peer_pairs_measured": measured * (num_images - 1),
        "mutual_s": rounded(mutual_s),
        "peer_s": rounded(peer_s),
        "speed_up": rounded(peer_s / mutual_s),
        "max_deviation": rounded(deviation),
        "tokens_bytes": tokens.nbytes,
        "memory_bytes": memory,
        "busy_cpus": cpus.share(),
    }
