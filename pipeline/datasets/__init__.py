"""Labelled images: data sets as one table, and their masks."""

from .labelled import LAYOUTS, read_dataset
from .listing import DatasetError
from .masks import decode_mask

__all__ = ["LAYOUTS", "DatasetError", "decode_mask", "read_dataset"]
