"""Generated photographs to measure on, as many as wanted, on little disk."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.storage import write_object

PER_FOLDER = 1_000
DISTINCT = 8  # photographs that differ; the others are copies
DRAWN = 1_024  # pixels; larger photographs are tiles of it, which takes less time than drawing
UPLOADS = 16


def make_photographs(folder: str, count: int, size: int) -> None:
    """``count`` JPEGs of ``size`` × ``size`` pixels in folders named after categories.

    On a local disk, equal files are links to one.

    Args:
        folder: path or URI.
    """
    from pipeline.synthetic import CATEGORIES  # not above: see photograph

    names = list(CATEGORIES)
    originals = [encoded(photograph(i, size)) for i in range(min(DISTINCT, count))]
    keys = [
        f"{names[i // PER_FOLDER % len(names)]}/{i // PER_FOLDER:04d}-{i % PER_FOLDER:03d}.jpg"
        for i in range(count)
    ]
    if "://" in folder:
        put = partial(_put, folder, originals)
        with ThreadPoolExecutor(UPLOADS) as pool:
            list(pool.map(put, enumerate(keys)))
        return
    firsts: dict[str, list[Path]] = {}  # links stay within a folder: a file bears so many only
    for i, key in enumerate(keys):
        path = Path(folder, key)
        known = firsts.setdefault(path.parent.name, [])
        if len(known) < len(originals):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(originals[i % len(originals)])
            known.append(path)
        else:
            os.link(known[i % len(known)], path)


def _put(folder: str, originals: list[bytes], numbered: tuple[int, str]) -> None:
    i, key = numbered
    write_object(f"{folder}/{key}", originals[i % len(originals)])


def photograph(number: int, size: int) -> NDArray[np.uint8]:
    """[size, size, 3] RGB of one generated product, or of many side by side."""
    # Not above: it loads SciPy, which the driver of a job, whose memory is measured, has not.
    from pipeline.synthetic import CATEGORIES, generate

    category = list(CATEGORIES)[number % len(CATEGORIES)]
    image = generate(category, "good", number, size=min(DRAWN, size)).image
    repeat = -(-size // len(image))
    return np.ascontiguousarray(np.tile(image, (repeat, repeat, 1))[:size, :size])


def encoded(image: NDArray[np.uint8]) -> bytes:
    """Bytes of a JPEG of quality 92, 4:2:0."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
