"""Making the small model that comes with the package, from nothing but generated pictures."""

from .metrics import measure
from .pictures import Pictures
from .towers import (
    FROM_NOTHING,
    GOING_ON,
    Budget,
    denormals_flushed,
    train_adaclip,
    train_image_tower,
    train_text_tower,
)

__all__ = [
    "FROM_NOTHING",
    "GOING_ON",
    "Budget",
    "Pictures",
    "denormals_flushed",
    "measure",
    "train_adaclip",
    "train_image_tower",
    "train_text_tower",
]
