"""Image bytes → pixels, and every way in which that can fail.

Only ``fast`` and ``normalising`` need torch.
"""

from .decoding import (
    FORMATS,
    MAX_MEGAPIXELS,
    MEAN,
    STD,
    Decoder,
    SquareImage,
    decode,
    max_object_bytes,
    open_header,
    preprocess,
    to_square,
)
from .errors import ImageError
from .turning import upright

__all__ = [
    "FORMATS",
    "MAX_MEGAPIXELS",
    "MEAN",
    "STD",
    "Decoder",
    "ImageError",
    "SquareImage",
    "decode",
    "max_object_bytes",
    "open_header",
    "preprocess",
    "to_square",
    "upright",
]
