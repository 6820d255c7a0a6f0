"""Comparing predictions."""

from __future__ import annotations

from functools import cache

import open_clip
import torch

from pipeline.models import Prediction

LONG_NAME = "very long name of a hand-made wooden toy with many moving parts " * 6


@cache
def tokenizer() -> open_clip.SimpleTokenizer:
    """open_clip's own, which takes half a second to make."""
    return open_clip.SimpleTokenizer()


def assert_close(ours: Prediction, others: Prediction, atol: float) -> None:
    """Equal scores and maps, up to ``atol``."""
    torch.testing.assert_close(ours.score, others.score, rtol=0, atol=atol)
    maps = (ours.logit_grid.sigmoid(), others.logit_grid.sigmoid())
    torch.testing.assert_close(*maps, rtol=0, atol=atol)


def assert_identical(ours: Prediction, others: Prediction) -> None:
    """Equal scores and logits, bit for bit."""
    assert torch.equal(ours.score, others.score)
    assert torch.equal(ours.logit_grid, others.logit_grid)
