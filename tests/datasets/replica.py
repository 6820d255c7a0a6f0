"""Tiny data sets, written file by file as their owners lay them out."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.datasets import read_dataset
from pipeline.storage import write_object

SIDE = 8


def encoded(values: NDArray[Any], extension: str) -> bytes:
    """An image file; the extension names the format."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, Image.registered_extensions()[f".{extension.lower()}"])
    return buffer.getvalue()


def image(extension: str) -> bytes:
    """An 8 x 8 RGB image."""
    return encoded(np.full((SIDE, SIDE, 3), 90, np.uint8), extension)


def mask(extension: str = "png", value: int = 255) -> bytes:
    """An 8 x 8 mask whose left half is defect; all black if the value is 0."""
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[:, : SIDE // 2] = value
    return encoded(values, extension)


def write(root: str, *paths: str) -> None:
    """Write an image at each path, or a mask where the path speaks of one."""
    words = ("mask", "ground", "label", "segmentation")
    for path in paths:
        extension = path.rsplit(".", 1)[1]
        is_mask = any(word in path.lower() for word in words)
        write_object(f"{root}/{path}", mask(extension) if is_mask else image(extension))


def rows(root: str, layout: str = "auto", split: str | None = None) -> list[tuple[object, ...]]:
    """What ``read_dataset`` reads: uri, mask_uri (paths below the root), label, category, split."""
    table = read_dataset(root, layout, split=split)
    found = []
    for row in table.to_pylist():
        assert row["uri"].startswith(f"{root}/")
        below = [row[name] and row[name].removeprefix(f"{root}/") for name in ("uri", "mask_uri")]
        found.append((*below, row["label"], row["category"], row["split"]))
    return found
