"""Settings of every job whose scorers run the model on images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from .checks import check_at_least, check_positive

MAX_TILES = 64  # along a side: 4,096 tiles, 20,000 pixels at the released model's size


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """How the model runs, and on what."""

    GROUP: ClassVar = "speed and memory"

    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is meant for GPUs; on the tests' small model it moves scores by up to 0.01."""
    decoder: Literal["exact", "fast"] = "exact"
    """How images become square pixels. "exact" is Pillow, as the released code; "fast" takes about
    half the CPU time and changes results, and so the fingerprint: everything is scored again.
    Pixels move by at most 1 of 255 grey levels, scores of the small model by up to 0.014
    (docs/performance.md)."""
    gray_range: tuple[float, float] | None = None
    """LOW HIGH: values of more than 8 bits, gray or colours, that become black and white, such as
    0 4095 for 12-bit pictures in 16-bit files, or -1000 1000 for CTs. One mapping for all images,
    part of the fingerprint; also takes floating-point, signed and 32-bit values, which are refused
    without. Default: 0 to 65535 of 16 bits, or what a file declares (docs/inputs.md)."""

    tiles: int = 1
    """See large images in tiles, at most so many along each side, which overlap and give one map; 1
    sees every image whole. Takes the time of that many images, finds defects that are small in a
    large frame, and is part of the fingerprint (docs/inputs.md)."""
    tile_size: int = 0
    """With --tiles: pixels of the original that a tile covers along each side. 0 = the model's own
    input size, so that nothing is made smaller; where --tiles are too few for that, each covers
    more."""

    batch_size: int | None = None
    """Images a forward pass. Default: 16 on a GPU, 4 on a CPU. Changes results by rounding only."""
    num_actors: int | None = None
    """Copies of the model. Default: one for every GPU of the cluster, or 1."""
    gpus_per_actor: float | None = None
    """GPUs for each copy; 0.5 puts two on one GPU, 0 runs on CPUs. Default: 1 if the cluster has
    GPUs, else 0. Give it, with --num-actors, where GPU nodes start on demand."""

    max_megapixels: float = 100.0
    """Larger images become an error row instead of being decoded."""

    def _check_scorer(self) -> None:
        check_at_least("--batch-size", self.batch_size, 1)
        check_at_least("--num-actors", self.num_actors, 1)
        check_at_least("--gpus-per-actor", self.gpus_per_actor, 0)
        if (self.gpus_per_actor or 0) > 1:
            raise ValueError("--gpus-per-actor is at most 1; a copy of the model uses one GPU")
        check_positive("--max-megapixels", self.max_megapixels)
        self._check_tiles()
        if self.gray_range is not None:
            low, high = self.gray_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(
                    f"--gray-range {low:g} {high:g}: give two numbers, the one that becomes black "
                    "and a larger one that becomes white, such as 0 4095"
                )

    def _check_tiles(self) -> None:
        check_at_least("--tiles", self.tiles, 1)
        check_at_least("--tile-size", self.tile_size, 0)
        if self.tiles > MAX_TILES:
            raise ValueError(f"--tiles is {self.tiles}; it is at most {MAX_TILES} along a side")
        if self.tile_size and self.tiles == 1:
            raise ValueError("--tile-size goes with --tiles, the most tiles along a side")
