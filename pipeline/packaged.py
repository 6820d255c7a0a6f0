"""The small model that comes with the package: for the demo, tests and measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "models" / "small"
IMAGE_SIZE = 192  # pixels, the input of its image tower

SMALL_MODEL: dict[str, Any] = {
    "backbone": str(FOLDER / "clip.json"),
    "backbone_weights": str(FOLDER / "clip.safetensors"),
    "checkpoint": str(FOLDER / "adaclip.safetensors"),
    "image_size": IMAGE_SIZE,
}
"""Arguments of ``load_adaclip``, and settings of the jobs."""
