"""The image tower's input, as tensors and as ``preprocess`` makes it."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.images import decode, preprocess, to_square
from pipeline.images.normalising import normalise_
from tests.bucket import jpeg


def test_a_batch_of_pixels_becomes_what_preprocess_makes() -> None:
    pixels = to_square(decode(jpeg(0)), 28).pixels
    batch = torch.from_numpy(np.stack([pixels, pixels])).permute(0, 3, 1, 2) / 255
    made = normalise_(batch)
    assert made is batch
    np.testing.assert_allclose(made[1].numpy(), preprocess(jpeg(0), 28), atol=1e-6)
