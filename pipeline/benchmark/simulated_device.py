"""A device that takes a known time, in the place of the model and what it runs on."""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch
import torch.nn.functional as F

from pipeline.distributed.predictor import Batch, Computed, Predictor
from pipeline.distributed.references.judges import Judges
from pipeline.output.reference_catalogue import ReferencesInUse
from pipeline.references import Judge

NEAREST = "file:///good.png"


class SimulatedDevice(Predictor):
    """Waits as long for a batch as a device of known speed would compute, one batch at a time.

    Waiting leaves the CPUs to others, as a GPU would. Every image has a map of smooth noise and is
    compared with references.
    """

    def __init__(self, image_size: int, grid_size: int, images_per_s: float) -> None:
        """Set up the device.

        Args:
            image_size: side of the images in pixels.
            grid_size: side of their maps in patches.
            images_per_s: its speed.
        """
        self._set_up(torch.device("cpu"), image_size, _OneForAll())
        self._images_per_s = images_per_s
        noise = torch.randn(1, grid_size, grid_size, generator=torch.Generator().manual_seed(0))
        self._grid = 20 * F.avg_pool2d(noise, 5, stride=1, padding=2) - 1

    def _computed(self, batch: Batch) -> Computed:
        count = len(batch.pixels)
        time.sleep(count / self._images_per_s)
        same = torch.full((count,), 0.5)
        nearest, grids = torch.zeros(count, dtype=torch.int64), self._grid.repeat(count, 1, 1)
        return Computed([same, same, same, same, nearest, grids], [True] * count, None)


class _OneForAll(Judges):
    """References of every category, of which only the names are asked for."""

    def __init__(self) -> None:
        super().__init__(ReferencesInUse())

    def of(self, categories: Iterable[str], device: torch.device) -> dict[str, Judge]:
        return dict.fromkeys(categories, _Named())


class _Named(Judge):
    def __init__(self) -> None:
        pass

    def uri(self, position: int) -> str:
        return NEAREST
