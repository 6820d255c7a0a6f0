"""What a person opens: the score table, anomaly maps, overlays and regions of an output folder.

Needs neither Ray nor torch.
"""

from .results import Results, open_results

__all__ = ["Results", "open_results"]
