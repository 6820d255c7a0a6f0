"""What a person opens: the score table, anomaly maps, overlays and regions of an output folder.

Needs neither Ray nor torch.
"""

from .masks import ImageMasks, Masks
from .regions import Polygon, Region, find_regions
from .results import Results, open_results
from .table import NothingSelectedWarning

__all__ = [
    "ImageMasks",
    "Masks",
    "NothingSelectedWarning",
    "Polygon",
    "Region",
    "Results",
    "find_regions",
    "open_results",
]
