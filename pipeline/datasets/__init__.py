"""Labelled images: data sets as one table, and their masks."""

from .labelled import LAYOUTS, read_dataset
from .listing import DatasetError
from .masks import LostMaskError, decode_mask, read_masks

__all__ = [
    "LAYOUTS",
    "DatasetError",
    "LostMaskError",
    "decode_mask",
    "read_dataset",
    "read_masks",
]
