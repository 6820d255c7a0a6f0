"""What a person opens: the score table, anomaly maps, overlays and regions of an output folder.

Needs neither Ray nor torch.
"""

from .masks import ImageMasks, Masks
from .nothing_selected import NothingSelectedWarning
from .regions import Polygon, Region, find_regions
from .results import Results, open_results

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
