"""What a backbone's open_clip configuration says of its input, read without importing PyTorch."""

from __future__ import annotations

import importlib.util
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

# AdaCLIP's released weights see images at 518 px (the released code's --image_size) through this
# backbone, which CLIP was trained with at 336.
RELEASED = ("ViT-L-14-336", 518)
# What open_clip.CLIPVisionCfg has where a configuration says nothing.
_IMAGE_SIZE, _PATCH_SIZE = 224, 16


class BackboneInput(NamedTuple):
    """What an image tower sees."""

    image_size: int
    """Side in pixels that it is used at."""
    patch_size: int
    """Side in pixels of a patch; any size of image is a multiple of it."""

    def check(self, flag: str, size: int, backbone: str) -> None:
        """Refuse a size that patches don't fill.

        Raises:
            ValueError: names the two nearest that they do.
        """
        least = max(size // self.patch_size, 1) * self.patch_size
        if size % self.patch_size:
            raise ValueError(
                f"{flag} {size} is not a multiple of {self.patch_size}, the patch size of "
                f"{backbone}; it is used at {self.image_size}, and near that size are {least} and "
                f"{least + self.patch_size}"
            )


@lru_cache
def backbone_input(backbone: str) -> BackboneInput | None:
    """The input of a backbone, by open_clip's name or the path of a JSON configuration.

    None where there is no such configuration here, or another kind of image tower: whoever loads
    the model says what is wrong with it.
    """
    try:
        vision = _configuration(backbone)["vision_cfg"]
        size, patch = vision.get("image_size", _IMAGE_SIZE), vision.get("patch_size", _PATCH_SIZE)
        if name := vision.get("timm_model_name"):  # in which timm writes it
            patch = next(map(int, re.findall(r"patch(\d+)", name)), None)
            size -= size % (patch or 1)  # what is over, no patch sees
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    if not (isinstance(size, int) and isinstance(patch, int) and size > 0 and patch > 0):
        return None
    name, released = RELEASED
    return BackboneInput(released if backbone.removesuffix("-quickgelu") == name else size, patch)


class Widths(NamedTuple):
    """Lengths of a backbone's vectors."""

    vision: int
    """Of the image tower's tokens."""
    text: int
    """Of the text tower's tokens."""
    embedding: int
    """Of the space that both share."""


def backbone_widths(backbone: str) -> Widths | None:
    """The widths of a backbone; None as of ``backbone_input``."""
    try:
        found = _configuration(backbone)
        return Widths(found["vision_cfg"]["width"], found["text_cfg"]["width"], found["embed_dim"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _configuration(backbone: str) -> dict[str, Any]:
    if backbone.endswith(".json"):
        path = Path(backbone)
    else:
        package = importlib.util.find_spec("open_clip")
        if package is None or package.origin is None:
            raise OSError("open_clip is not installed")
        path = Path(package.origin).parent / "model_configs" / f"{backbone}.json"
    written = json.loads(path.read_text())
    configuration: dict[str, Any] = written.get("model_cfg", written)
    return configuration
