"""The golden model: what the released AdaCLIP code computed, with weights that anyone can remake.

``golden.npz`` and ``inputs/`` are data recorded from the authors' code in fp32 on a CPU;
``mutual.npz``, from MuSc's.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

import pipeline.models
from pipeline.images import preprocess
from pipeline.models import AdaCLIP, load_adaclip

FOLDER = Path(__file__).parent
BACKBONE = str(Path(pipeline.models.__file__).parent / "tiny_clip.json")
IMAGE_SIZE = 168
CASES = (
    ("grass_stain.png", "grass"),
    ("brick_gray.png", "brick-wall"),
    ("coffee_rgba.png", "metal nut"),
    ("rocket.jpg", "rocket"),
)


def values() -> Any:
    """The recorded arrays by key."""
    return np.load(FOLDER / "golden.npz")


def mutual_values() -> Any:
    """The recorded arrays of mutual scoring by key."""
    return np.load(FOLDER / "mutual.npz")


def image_bytes(case: int) -> bytes:
    """Encoded input image of a case."""
    return (FOLDER / "inputs" / CASES[case][0]).read_bytes()


def batch(cases: list[int]) -> tuple[torch.Tensor, list[str]]:
    """Preprocessed images [B, 3, 168, 168] and class names of some cases."""
    pixels = [preprocess(image_bytes(i), IMAGE_SIZE) for i in cases]
    return torch.from_numpy(np.stack(pixels)), [CASES[i][1] for i in cases]


def write_weights(folder: Path) -> dict[str, str]:
    """Write the golden weights as files; returns ``load_adaclip``'s arguments for them."""
    blank = load_adaclip(backbone=BACKBONE, backbone_weights=None, image_size=IMAGE_SIZE)
    backbone, checkpoint = folder / "golden_clip.safetensors", folder / "golden.pth"
    save_file(_filled(blank.clip.state_dict()), backbone)
    own = _filled(blank.learnable_state())
    torch.save({f"clip_model.{k}": v for k, v in own.items()}, checkpoint)
    return {
        "backbone": BACKBONE,
        "backbone_weights": str(backbone),
        "checkpoint": str(checkpoint),
    }


def load(files: Mapping[str, str], **settings: Any) -> AdaCLIP:
    """The golden model through the public loader; ``settings`` as in ``load_adaclip``."""
    arguments: dict[str, Any] = {"image_size": IMAGE_SIZE, **files, **settings}
    return load_adaclip(**arguments)


def _filled(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(np.asarray(_weight(k, tuple(v.shape)))) for k, v in state.items()}


def _weight(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    seed = zlib.crc32(name.encode())
    z = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    *path, last = name.split(".")
    if last == "weight" and any(part.startswith("ln_") for part in path):
        return 1 + np.float32(0.1) * z
    if last.endswith("bias"):
        return np.float32(0.02) * z
    if "positional_embedding" in name:
        return np.float32(0.1) * z
    if any(word in name for word in ("class_embedding", "token_embedding", "static_prompts")):
        return np.float32(0.5) * z
    fan_in = shape[0] if last in ("proj", "text_projection") else int(np.prod(shape[1:]))
    return (z * fan_in**-0.5).astype(np.float32)
