"""What an image's siblings know: sums of patch tokens, Gaussians, distances, and what they mean.

Pure PyTorch; knows no Ray, no storage and no model. See docs/references.md for the method.
"""

from .building import (
    LEAST_UNLABELLED,
    SAMPLE_SIZE,
    Rest,
    Seen,
    add_up,
    build,
    merge,
    screens_of,
)
from .gaussian import Gaussian
from .judging import EXACT_BELOW, NONE_NEAR, Judge, Judgement
from .left_out import left_out_distances
from .look import Look, Readings
from .reference_set import ReferenceImage, ReferenceSet
from .robust import Screen
from .scale import Scale
from .sums import Sums
from .tokens import normalise

__all__ = [
    "EXACT_BELOW",
    "LEAST_UNLABELLED",
    "NONE_NEAR",
    "SAMPLE_SIZE",
    "Gaussian",
    "Judge",
    "Judgement",
    "Look",
    "Readings",
    "ReferenceImage",
    "ReferenceSet",
    "Rest",
    "Scale",
    "Screen",
    "Seen",
    "Sums",
    "add_up",
    "build",
    "left_out_distances",
    "merge",
    "normalise",
    "screens_of",
]
