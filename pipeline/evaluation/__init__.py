"""The field's metrics for image scores and anomaly maps, and tables of them. Knows no Ray."""

from .paper import compare, paper_checkpoint, paper_name, paper_results
from .pixels import PixelHistogram
from .ranking import image_metrics
from .table import METRICS, as_markdown, as_text, metrics_table

__all__ = [
    "METRICS",
    "PixelHistogram",
    "as_markdown",
    "as_text",
    "compare",
    "image_metrics",
    "metrics_table",
    "paper_checkpoint",
    "paper_name",
    "paper_results",
]
