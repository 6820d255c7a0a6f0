"""Where this machine keeps what it has fetched or worked out."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(content: str) -> Path:
    """``$XDG_CACHE_HOME/adaclip-pipeline/<content>``, below ``~/.cache`` if that is not set."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "adaclip-pipeline" / content
