"""What a run says of itself."""

from .summary import RunReport

__all__ = ["RunReport"]
